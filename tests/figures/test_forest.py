"""The figure of paired differences: what is drawn is what the table says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from minivess.config.schema import FigureConfig
from minivess.figures import FigureInputs
from minivess.figures.forest import draw


def test_differences_and_intervals_are_the_tables(inputs: FigureInputs) -> None:
    figure = draw(inputs, FigureConfig())
    rows = inputs.tables["comparison"]
    assert len(figure.axes) == len(inputs.statistics.plan.metrics) == rows.height
    for metric, axes in zip(inputs.statistics.plan.metrics, figure.axes, strict=True):
        [row] = rows.filter(metric=metric).to_dicts()
        [mark] = [line for line in axes.lines if line.get_marker() == "s"]
        assert mark.get_xdata() == pytest.approx([row["difference"]])
        ends = [list(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 1.4]
        assert ends == ([[row["ci_low"], row["ci_high"]]] if row["ci_low"] is not None else [])
        assert len(axes.patches) == (row["rope"] is not None)


def test_an_ensemble_has_its_row(inputs: FigureInputs) -> None:
    """Ensembles are in the tables but are no arms of the configuration."""
    figure = draw(replace(inputs, arms=inputs.arms[:1]), FigureConfig())
    assert "cldice" in figure.axes[0].get_yticklabels()[0].get_text()


def test_one_arm_says_so(inputs_of: Callable[..., FigureInputs]) -> None:
    figure = draw(inputs_of((("net", "a"),)), FigureConfig())
    assert "nothing" in figure.axes[0].get_yticklabels()[0].get_text()
