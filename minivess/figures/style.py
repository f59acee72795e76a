"""One look for all figures, and writing them with the same bytes every time."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from minivess import output
from minivess.metrics import METRICS
from minivess.statistics.summary import percentage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from minivess.statistics.compare import Arm

MM_PER_INCH = 25.4
FONT_SIZE = 8.0
# DejaVu Sans: 0.6 em is a little above the mean advance of lower-case text
MM_PER_CHARACTER = FONT_SIZE * 0.6 / 72 * MM_PER_INCH
PNG_DPI = 150
GREY = "#7f7f7f"

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": FONT_SIZE,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": FONT_SIZE,
    "axes.titleweight": "bold",
    "figure.dpi": PNG_DPI,
    "font.family": "DejaVu Sans",
    "font.size": FONT_SIZE,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "legend.fontsize": FONT_SIZE,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "pdf.compression": 0,  # by the interpreter's zlib, whose bytes are not the same everywhere
    "pdf.fonttype": 42,
    "svg.fonttype": "path",  # outlines, so that it looks the same without the font
    "svg.hashsalt": "minivess",
    "xtick.labelsize": FONT_SIZE - 1,
    "xtick.major.width": 0.6,
    "ytick.labelsize": FONT_SIZE - 1,
    "ytick.major.width": 0.6,
}

METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class ArmStyle:
    """How one arm is drawn everywhere."""

    color: str
    marker: str
    line: Literal["-", "--", ":", "-."]


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's defaults plus this project's style; the reader's own settings have no part."""
    from matplotlib.style import context

    with context(["default", STYLE]):
        yield


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """An empty figure with constrained layout, not known to pyplot; call it inside `styled`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH), layout="constrained")


def arm_styles(arms: Sequence[Arm], colors: Sequence[str]) -> dict[Arm, ArmStyle]:
    """Colour by loss, marker and line by network; where there is one loss, colour by network.

    >>> arm_styles([("unet", "a"), ("unet", "b")], ["#000000", "#ffffff"])[("unet", "b")].color
    '#ffffff'
    """
    losses = list(dict.fromkeys(loss for _, loss in arms))
    models = list(dict.fromkeys(model for model, _ in arms))
    markers = "osD^vP"
    lines: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
    return {
        (model, loss): ArmStyle(
            colors[(losses.index(loss) if len(losses) > 1 else models.index(model)) % len(colors)],
            markers[models.index(model) % len(markers)],
            lines[models.index(model) % len(lines)],
        )
        for model, loss in arms
    }


def wrapped(name: str, width_mm: float) -> str:
    """A long name on several lines, broken after _ - / and blanks, inside a word if it must be.

    >>> wrapped("cbdice_cldice", 15)
    'cbdice_\\ncldice'
    """
    width = max(4, int(width_mm / MM_PER_CHARACTER))
    pieces = [
        piece[start : start + width]
        for piece in re.findall(r"[^_\-/ ]*[_\-/ ]*", name)
        for start in range(0, len(piece), width)
    ]
    lines: list[str] = []
    for piece in pieces:
        if lines and len((lines[-1] + piece).rstrip()) <= width:
            lines[-1] += piece
        else:
            lines.append(piece)
    return "\n".join(line.strip() for line in lines)


def metric_label(metric: str) -> str:
    """Label of a metric with its unit.

    >>> metric_label("masd_um"), metric_label("dice")
    ('MASD (µm)', 'Dice')
    """
    definition = METRICS[metric]
    unit = {"1": "", "um": " (µm)", "um^3": " (µm³)"}[definition.unit]
    return definition.label + unit


def direction(metric: str, vertical: bool) -> str:
    """An arrow to where the metric is better; empty where neither direction is.

    >>> direction("dice", vertical=False), direction("hd95_um", vertical=False)
    ('better →', '← better')
    """
    better = METRICS[metric].better
    if better == "neither":
        return ""
    if vertical:
        return "better ↑" if better == "higher" else "better ↓"
    return "better →" if better == "higher" else "← better"


def axis_label(metric: str) -> str:
    """Label of a vertical axis: metric, unit, and its better direction."""
    arrow = direction(metric, vertical=True)
    return f"{metric_label(metric)}, {arrow}" if arrow else metric_label(metric)


def mean_handle(confidence: float) -> Line2D:
    """The legend's entry for a mean and its interval."""
    from matplotlib.lines import Line2D

    label = f"mean and its {percentage(confidence)} interval"
    return Line2D([], [], color="black", marker="D", markersize=3.5, label=label)


def scale_bar_um(width_um: float) -> float:
    """Length of a scale bar: the largest of 1, 2, 5 times a power of ten up to a third.

    >>> scale_bar_um(512.0), scale_bar_um(96.0), scale_bar_um(15.0)
    (100.0, 20.0, 5.0)
    """
    limit = width_um / 3
    power = 10.0 ** math.floor(math.log10(limit))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= limit)


def add_scale_bar(axes: Axes, width_um: float) -> None:
    """A scale bar in the lower right corner of an image whose axis x is in um."""
    from matplotlib.font_manager import FontProperties
    from mpl_toolkits.axes_grid1.anchored_artists import (  # type: ignore[import-untyped, unused-ignore]
        AnchoredSizeBar,
    )

    length = scale_bar_um(width_um)
    bar = AnchoredSizeBar(
        axes.transData,
        length,
        f"{length:g} µm",
        "lower right",
        pad=0.2,
        borderpad=0.3,
        sep=1.5,
        color="white",
        frameon=True,
        size_vertical=width_um / 60,
        fontproperties=FontProperties(size=FONT_SIZE - 2),
    )
    bar.patch.set(facecolor="black", alpha=0.6, linewidth=0)
    axes.add_artist(bar)


def save(figure: Figure, base: Path, sources: Sequence[Path]) -> None:
    """Write `base`.svg, .pdf, .png (150 dpi), and .json with the SHA-256 of each source table.

    Equal figures are equal bytes: no dates, no version, fixed salt of the SVG's ids. The sources
    are named relative to the folder above `base`'s, the root of the experiment.

    Raises:
        MinivessError: MV-SYSTEM-001 not writable, MV-SYSTEM-002 disk full.
    """
    for suffix, metadata in METADATA.items():
        with output.replacing(base.with_name(f"{base.name}.{suffix}")) as temporary, styled():
            figure.savefig(temporary, format=suffix, dpi=PNG_DPI, metadata=metadata)
    root = base.absolute().parent.parent
    digests = {
        path.absolute().relative_to(root, walk_up=True).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sources
    }
    output.write_json(
        {"figure": base.name, "sources": digests}, base.with_name(f"{base.name}.json")
    )
