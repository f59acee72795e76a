"""The reliability diagrams."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from minivess.config.plan import AnalysisPlan
from minivess.config.schema import FigureConfig
from minivess.figures import FigureInputs
from minivess.figures.reliability import LABELS, draw
from minivess.statistics.resampling import mean_interval, sample


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


def test_intervals_draw_groups_where_the_analysis_does(inputs: FigureInputs) -> None:
    groups = dict(zip((f"mv{n:02d}" for n in range(5)), "abacd", strict=True))
    plan = AnalysisPlan(resampling="groups_within_folds")
    statistics = inputs.statistics.model_copy(update={"plan": plan})
    figure = draw(replace(inputs, statistics=statistics, groups=groups), FigureConfig())
    model, loss = inputs.arms[0]
    own = inputs.tables["reliability"].filter(model=model, loss=loss, calibrator="none", bin=4)
    drawn_from = sample(
        own["observed"].to_list(), own["fold"].to_list(), [groups[case] for case in own["case"]]
    )
    name = f"{model}/{loss}/none"
    low, high, method = mean_interval(drawn_from, statistics, "reliability", name, "4")
    assert method == "hierarchical"
    bars = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.9]
    assert np.asarray(bars[-1].get_ydata()).tolist() == [low, high]
