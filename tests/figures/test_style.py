"""Names, labels, and writing of figures."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivess.figures import style
from minivess.metrics import METRICS


def small_figure(title: str = "Größe"):  # type: ignore[no-untyped-def]
    with style.styled():
        figure = style.new_figure(60, 40)
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        axes.set_title(title)
    return figure


def test_the_level_of_an_interval_is_not_rounded() -> None:
    assert style.mean_handle(0.95).get_label() == "mean and its 95% interval"
    assert style.mean_handle(0.995).get_label() == "mean and its 99.5% interval"


def test_sources_digests_by_relative_name(tmp_path: Path) -> None:
    root = tmp_path / "results" / "demo"
    table = root / "tables" / "cases.parquet"
    table.parent.mkdir(parents=True)
    table.write_bytes(b"table")
    style.save(small_figure(), root / "figures" / "one", [table])
    record = json.loads((root / "figures" / "one.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(b"table").hexdigest()
    assert record == {"figure": "one", "sources": {"tables/cases.parquet": digest}}
    assert sorted(path.name for path in (root / "figures").iterdir()) == [
        "one.json",
        "one.pdf",
        "one.png",
        "one.svg",
    ]


def test_files_say_nothing_about_time_or_version(tmp_path: Path) -> None:
    style.save(small_figure(), tmp_path / "figures" / "one", [])
    svg = (tmp_path / "figures" / "one.svg").read_text(encoding="utf-8")
    pdf = (tmp_path / "figures" / "one.pdf").read_bytes()
    png = (tmp_path / "figures" / "one.png").read_bytes()
    assert "dc:date" not in svg
    assert "Größe" in svg
    assert b"CreationDate" not in pdf
    assert b"FlateDecode" not in pdf  # not by the interpreter's own zlib
    assert b"Software" not in png
    assert b"/FontFile2" in pdf  # the TrueType font is embedded


def test_png_has_the_size_asked_for(tmp_path: Path) -> None:
    from matplotlib.image import imread

    style.save(small_figure(), tmp_path / "figures" / "one", [])
    height, width = imread(tmp_path / "figures" / "one.png").shape[:2]
    assert width == pytest.approx(60 / 25.4 * 150, abs=1)
    assert height == pytest.approx(40 / 25.4 * 150, abs=1)


def test_the_readers_matplotlib_settings_have_no_part(tmp_path: Path) -> None:
    from matplotlib import rc_context

    style.save(small_figure(), tmp_path / "a" / "one", [])
    with rc_context({"font.size": 20, "lines.linewidth": 9, "axes.facecolor": "red"}):
        style.save(small_figure(), tmp_path / "b" / "one", [])
    for suffix in style.METADATA:
        name = f"one.{suffix}"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@given(st.text("ab_-/ ", max_size=60), st.floats(5, 60))
def test_wrapping_keeps_the_name_and_the_width(name: str, width_mm: float) -> None:
    lines = style.wrapped(name, width_mm).split("\n")
    limit = max(4, int(width_mm / style.MM_PER_CHARACTER))
    assert all(len(line) <= limit for line in lines)
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")


@pytest.mark.parametrize("metric", METRICS)
def test_labels_have_unit_and_direction(metric: str) -> None:
    label = style.axis_label(metric)
    assert ("µm" in label) == (METRICS[metric].unit != "1")
    arrow = {"higher": "↑", "lower": "↓", "neither": None}[METRICS[metric].better]
    assert {"↑", "↓"} & set(label) == ({arrow} if arrow else set())


def test_one_colour_per_loss_and_one_marker_per_network() -> None:
    arms = [(model, loss) for model in "mn" for loss in "abc"]
    styles = style.arm_styles(arms, ["#111111", "#222222"])
    assert [styles["m", loss].color for loss in "abc"] == [
        "#111111",
        "#222222",
        "#111111",
    ]
    assert styles["m", "a"].color == styles["n", "a"].color
    assert styles["m", "a"].marker != styles["n", "a"].marker


def test_networks_have_the_colours_where_there_is_one_loss() -> None:
    styles = style.arm_styles([("m", "a"), ("n", "a")], ["#111111", "#222222"])
    assert [look.color for look in styles.values()] == ["#111111", "#222222"]


@given(st.floats(0.5, 1e5))
def test_scale_bar_fits(width_um: float) -> None:
    length = style.scale_bar_um(width_um)
    assert width_um / 8 <= length <= width_um / 3 * (1 + 1e-9)
    assert f"{length:e}"[0] in "125"
