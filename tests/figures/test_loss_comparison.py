"""The figure of the main metrics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minivess.config.schema import FigureConfig
from minivess.figures import FigureInputs
from minivess.figures.loss_comparison import draw
from minivess.figures.style import save


def test_all_cases_means_and_baseline_are_there(inputs: FigureInputs) -> None:
    figure = draw(inputs, FigureConfig())
    dice = figure.axes[0]
    for row, (_, loss) in enumerate(inputs.arms):
        points = np.asarray(dice.collections[row].get_offsets())
        own = inputs.tables["cases"].filter(loss=loss, metric="dice")
        assert sorted(points[:, 0]) == pytest.approx(sorted(own["value"]))
        assert np.all(np.abs(points[:, 1] - row) < 0.5)
        summary = inputs.tables["summary"].filter(loss=loss, metric="dice")
        marks = [line for line in dice.lines if line.get_marker() == "D"]
        assert marks[row].get_xdata() == pytest.approx(summary["mean"].to_list())
    dashed = [line for line in dice.lines if line.get_linestyle() == "--"]
    assert np.asarray(dashed[0].get_xdata()) == pytest.approx([0.4, 0.4])
    assert all(line.get_linestyle() != "--" for axes in figure.axes[1:] for line in axes.lines)


def test_baseline_is_over_the_evaluated_cases(inputs: FigureInputs) -> None:
    import polars as pl

    from minivess.figures.loss_comparison import _baseline_mean

    more = pl.DataFrame({"case": ["locked"], "threshold": [0.1], "dice": [0.99]})
    changed = FigureInputs(
        {**inputs.tables, "baseline": pl.concat([inputs.tables["baseline"], more])},
        inputs.statistics,
    )
    assert _baseline_mean(changed) == pytest.approx(0.4)


def test_log_scale_only_with_outliers(inputs: FigureInputs) -> None:
    scales = {axes.get_title(): axes.get_xscale() for axes in draw(inputs, FigureConfig()).axes}
    assert scales["MASD (µm)"] == "symlog"
    assert scales["Dice"] == "linear"
    ok = inputs.tables["cases"].filter(status="ok")
    tame = FigureInputs({**inputs.tables, "cases": ok}, inputs.statistics, inputs.arms)
    assert {axes.get_xscale() for axes in draw(tame, FigureConfig()).axes} == {"linear"}


def test_texts_in_the_svg(inputs: FigureInputs, tmp_path: Path) -> None:
    save(draw(inputs, FigureConfig()), tmp_path / "figures" / "one", [])
    svg = (tmp_path / "figures" / "one.svg").read_text(encoding="utf-8")
    for text in (
        "Dice",
        "clDice",
        "MASD (µm)",
        "NSD",
        "HD95 (µm)",
        "dice_ce",
        "cldice",
        "better →",
        "← better",
        "mean and its 95% interval",
        "best single threshold (chosen with the reference)",
    ):
        assert f"<!-- {text}" in svg


def test_many_cases(inputs_of: Callable[..., FigureInputs]) -> None:
    figure = draw(inputs_of(n_cases=70), FigureConfig())
    assert len(figure.axes[0].collections[0].get_offsets()) == 70  # type: ignore[arg-type]
