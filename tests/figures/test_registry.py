"""The registry of figures, and what holds for every figure."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from minivess.config.schema import FigureConfig, FiguresConfig
from minivess.errors import MinivessError
from minivess.figures import (
    FIGURES,
    FigureInputs,
    draw_figure,
    figure_definition,
    make_figure,
)
from minivess.figures.style import METADATA
from minivess.statistics.tables import COLUMNS

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.transforms import Bbox

LONG = tuple(
    (f"a_network_with_a_long_name_{model}", f"a_loss_with_a_long_name_{loss}")
    for model in range(2)
    for loss in range(3)
)


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_registry_is_the_configuration() -> None:
    assert set(FIGURES) == set(FiguresConfig.model_fields)
    for name, definition in FIGURES.items():
        assert definition.name == name
        assert definition.caption.endswith(".")
        assert set(definition.tables) <= set(COLUMNS)


def test_unknown_figure_names_the_nearest() -> None:
    with pytest.raises(MinivessError) as caught:
        figure_definition("fold_heatmaps")
    assert caught.value.code == "MV-CONFIG-003"
    assert "fold_heatmap?" in caught.value.fix


def test_missing_table(inputs: FigureInputs) -> None:
    with pytest.raises(MinivessError, match="history") as caught:
        draw_figure("training_curves", replace(inputs, tables={}), FigureConfig())
    assert caught.value.code == "MV-STATE-002"


def test_importing_the_registry_is_light() -> None:
    code = (
        "import sys, minivess.figures; print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", FIGURES)
def test_same_bytes_twice_and_other_bytes_for_another_colour(
    name: str, inputs: FigureInputs, tmp_path: Path
) -> None:
    for folder in ("first", "second"):
        make_figure(name, inputs, FigureConfig(), tmp_path / folder / name, [])
    first = digests(tmp_path / "first")
    assert first == digests(tmp_path / "second")
    assert sorted(first) == sorted(f"{name}.{suffix}" for suffix in (*METADATA, "json"))
    if name == "fold_heatmap":
        return  # its colours are a map, not the arms' colours
    other = FigureConfig(colors=("#123456", "#654321"))
    make_figure(name, inputs, other, tmp_path / "other" / name, [])
    for file, digest in digests(tmp_path / "other").items():
        assert (digest == first[file]) == file.endswith(".json")


def test_same_bytes_in_a_fresh_process(
    tmp_path: Path, inputs_of: Callable[..., FigureInputs]
) -> None:
    """Another process, hash seed, time zone and folder."""
    code = (
        "import sys; from pathlib import Path\n"
        "from conftest import make_inputs\n"
        "from minivess.config.schema import FigureConfig\n"
        "from minivess.figures import FIGURES, make_figure\n"
        "inputs = make_inputs(n_cases=3)\n"
        "for name in FIGURES:\n"
        "    make_figure(name, inputs, FigureConfig(), Path(sys.argv[1]) / name, [])\n"
    )
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])]),
        "TZ": "Asia/Tokyo",
    }
    fresh = str(tmp_path / "fresh")
    subprocess.run([sys.executable, "-c", code, fresh], env=environment, check=True)
    inputs = inputs_of(n_cases=3)
    for name in FIGURES:
        make_figure(name, inputs, FigureConfig(), tmp_path / "here" / name, [])
    assert digests(tmp_path / "here") == digests(tmp_path / "fresh")
    assert len(digests(tmp_path / "here")) == 4 * len(FIGURES)


def shown_ticks(axis: Axis, renderer: RendererAgg) -> list[Bbox]:
    """Boxes of the labels of the ticks inside the axis; the others are not drawn."""
    low, high = sorted(axis.get_view_interval())
    return [
        tick.label1.get_window_extent(renderer)
        for tick in axis.get_major_ticks()
        if tick.label1.get_visible() and tick.label1.get_text() and low <= tick.get_loc() <= high
    ]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    ("arms", "n_cases"),
    [(LONG[:1], 2), (LONG, 12), ((("net", "a"), ("other", "a")), 3)],
    ids=["one arm two cases", "six long names", "two networks"],
)
def test_texts_stay_inside_and_apart(
    name: str,
    arms: tuple[tuple[str, str], ...],
    n_cases: int,
    inputs_of: Callable[..., FigureInputs],
) -> None:
    """No axis label, title or tick label is cut off; neighbours do not overlap."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from minivess.figures.style import styled

    figure = draw_figure(name, inputs_of(arms, n_cases), FigureConfig())
    with styled():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    width, height = canvas.get_width_height()
    for axes in figure.axes:
        ticks = {axis: shown_ticks(axis, renderer) for axis in (axes.xaxis, axes.yaxis)}
        for boxes in ticks.values():
            for left, right in itertools.pairwise(boxes):
                assert not left.overlaps(right)
        labels = [t for t in (axes.title, axes.xaxis.label, axes.yaxis.label) if t.get_text()]
        boxes = [text.get_window_extent(renderer) for text in labels]
        for box in itertools.chain(boxes, *ticks.values()):
            assert box.x0 >= -1
            assert box.y0 >= -1
            assert box.x1 <= width + 1
            assert box.y1 <= height + 1
    for legend in figure.legends:
        box = legend.get_window_extent(renderer)
        assert box.x0 >= -1
        assert box.x1 <= width + 1
