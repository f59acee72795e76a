"""The reliability diagrams."""

from __future__ import annotations

import numpy as np
import pytest

from minivess.config.schema import FigureConfig
from minivess.figures import FigureInputs
from minivess.figures.reliability import LABELS, draw


def test_a_line_per_case_and_a_mean_per_bin(inputs: FigureInputs) -> None:
    figure = draw(inputs, FigureConfig())
    assert len(figure.axes) == 2 * len(LABELS)
    axes = figure.axes[0]
    thin = [line for line in axes.lines if line.get_linewidth() == 0.5]
    assert len(thin) == 5  # cases
    table = inputs.tables["reliability"].filter(loss=inputs.arms[0][1], calibrator="none")
    first = table.filter(case="mv00").filter(table.filter(case="mv00")["n_voxels"] > 0)
    assert np.asarray(thin[0].get_ydata()) == pytest.approx(first["observed"].to_list())
    means = [line for line in axes.lines if line.get_marker() == "D"]
    assert len(means) == 4  # the empty bin has none
    expected = table.filter(bin=4)["observed"].mean()
    assert float(np.asarray(means[-1].get_ydata())[0]) == pytest.approx(expected)
    assert [a.get_title() for a in figure.axes[:4]] == list(LABELS.values())
