"""The figure of the folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from minivess.config.schema import FigureConfig
from minivess.figures import FigureInputs
from minivess.figures.fold_heatmap import draw, fold_means
from minivess.figures.style import save
from minivess.statistics.summary import number


def test_means_by_hand(inputs: FigureInputs) -> None:
    folds, means = fold_means(inputs.tables["cases"], "dice", inputs.arms)
    assert folds == [0, 1]
    for row, (_, loss) in enumerate(inputs.arms):
        for fold in folds:
            own = inputs.tables["cases"].filter(loss=loss, metric="dice", fold=fold)
            assert means[row, fold] == pytest.approx(own["value"].mean())


def test_arm_without_a_fold(inputs: FigureInputs) -> None:
    cases = inputs.tables["cases"].filter(~((pl.col("fold") == 1) & (pl.col("loss") == "cldice")))
    _, means = fold_means(cases, "dice", inputs.arms)
    assert np.isnan(means).tolist() == [[False, False], [False, True]]
    figure = draw(FigureInputs({"cases": cases}, inputs.statistics, inputs.arms), FigureConfig())
    assert [text.get_text() for text in figure.axes[0].texts][-1] == "no cases"


def test_texts_in_the_svg(inputs: FigureInputs, tmp_path: Path) -> None:
    save(draw(inputs, FigureConfig()), tmp_path / "figures" / "one", [])
    svg = (tmp_path / "figures" / "one.svg").read_text(encoding="utf-8")
    _, means = fold_means(inputs.tables["cases"], "dice", inputs.arms)
    for text in (
        "mean Dice, higher is better",
        "fold",
        *(number(m) for m in means.ravel()),
    ):
        assert f"<!-- {text} -->" in svg
