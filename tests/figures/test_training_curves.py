"""The figure of the training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from minivess.config.schema import FigureConfig
from minivess.figures import FigureInputs
from minivess.figures.style import save
from minivess.figures.training_curves import draw


def test_a_thin_line_per_run_and_a_thick_mean(inputs: FigureInputs) -> None:
    figure = draw(inputs, FigureConfig())
    for axes, name in zip(figure.axes, ("train/loss", "selection/dice"), strict=True):
        thin = [line for line in axes.lines if line.get_linewidth() < 1]
        thick = [line for line in axes.lines if line.get_linewidth() > 1]
        assert (len(thin), len(thick)) == (4, 2)  # two arms, two folds
        own = inputs.tables["history"].filter(name=name, loss=inputs.arms[0][1])
        for fold in range(2):
            values = own.filter(fold=fold).sort("epoch")["value"].to_list()
            assert np.asarray(thin[fold].get_ydata()) == pytest.approx(values)
        mean = own.group_by("epoch").agg(pl.col("value").mean()).sort("epoch")["value"].to_list()
        assert np.asarray(thick[0].get_ydata()) == pytest.approx(mean)
        assert thin[0].get_color() == thick[0].get_color() != thick[1].get_color()


def test_without_selection_cases_their_panel_says_so(inputs: FigureInputs) -> None:
    history = inputs.tables["history"].filter(pl.col("name") != "selection/dice")
    trained = replace(inputs, tables={**inputs.tables, "history": history})
    loss, dice = draw(trained, FigureConfig()).axes
    assert [text.get_text() for text in dice.texts] == ["none: the last epoch predicts"]
    assert not loss.texts
    assert len(loss.lines) == 6
    assert not any(len(np.asarray(line.get_xdata())) for line in dice.lines)


def test_one_epoch_is_visible(inputs_of: Callable[..., FigureInputs]) -> None:
    figure = draw(inputs_of(epochs=1), FigureConfig())
    assert all(line.get_marker() not in (None, "None") for line in figure.axes[0].lines)


def test_texts_in_the_svg(inputs: FigureInputs, tmp_path: Path) -> None:
    save(draw(inputs, FigureConfig()), tmp_path / "figures" / "one", [])
    svg = (tmp_path / "figures" / "one.svg").read_text(encoding="utf-8")
    for text in ("epoch", "loss, better ↓", "Dice, better ↑", "dice_ce", "cldice"):
        assert f"<!-- {text} -->" in svg
