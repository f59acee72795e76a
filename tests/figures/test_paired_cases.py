"""The figure of the paired cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from minivess.config.schema import FigureConfig
from minivess.figures import FigureInputs
from minivess.figures.paired_cases import draw
from minivess.figures.style import GREY, save


def test_a_line_joins_the_values_of_each_case(inputs: FigureInputs) -> None:
    axes = draw(inputs, FigureConfig()).axes[0]
    lines = [np.asarray(line.get_ydata()) for line in axes.lines if line.get_color() == GREY]
    values = inputs.tables["cases"].filter(metric="dice")
    for index, case in enumerate(sorted(values["case"].unique())):
        own = values.filter(case=case)
        expected = [own.filter(loss=loss)["value"].item() for _, loss in inputs.arms]
        assert lines[index] == pytest.approx(expected)


def test_case_that_one_arm_lacks_is_drawn_where_it_is(inputs: FigureInputs) -> None:
    cases = inputs.tables["cases"].filter(
        ~((pl.col("case") == "mv00") & (pl.col("loss") == "cldice"))
    )
    changed = FigureInputs({**inputs.tables, "cases": cases}, inputs.statistics, inputs.arms)
    axes = draw(changed, FigureConfig()).axes[0]
    sizes = [len(np.asarray(points.get_offsets())) for points in axes.collections]
    assert sizes == [5, 4]


def test_texts_in_the_svg(inputs: FigureInputs, tmp_path: Path) -> None:
    save(draw(inputs, FigureConfig()), tmp_path / "figures" / "one", [])
    svg = (tmp_path / "figures" / "one.svg").read_text(encoding="utf-8")
    row = inputs.tables["comparison"].filter(metric="dice").row(0, named=True)
    for text in (
        "Dice, better ↑",
        "dice_ce",
        "cldice minus dice_ce:",
        f"{row['difference']:+.3g} [",
        "mean and its 95% interval",
    ):
        assert text in svg


def test_ensembles_in_the_tables_change_nothing(inputs: FigureInputs, tmp_path: Path) -> None:
    """Their arms are in summary and comparison, but not among those that are drawn."""
    more = {}
    for name in ("cases", "summary"):
        other = inputs.tables[name].with_columns(model=pl.lit("net+mean"))
        more[name] = pl.concat([inputs.tables[name], other])
    pairs = inputs.tables["comparison"]
    more["comparison"] = pl.concat([pairs, pairs.with_columns(model_b=pl.lit("net+mean"))])
    changed = FigureInputs({**inputs.tables, **more}, inputs.statistics, inputs.arms)
    for name, drawn in (("without", inputs), ("with", changed)):
        save(draw(drawn, FigureConfig()), tmp_path / name, [])
    assert (tmp_path / "without.svg").read_bytes() == (tmp_path / "with.svg").read_bytes()
