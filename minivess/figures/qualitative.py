"""Image, reference, predictions and errors of a few cases, one slice each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from minivess.errors import MinivessError
from minivess.figures import style
from minivess.metrics import METRICS
from minivess.statistics.compare import arms_of, case_values
from minivess.statistics.summary import arm_names, number

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from minivess.config.schema import FigureConfig
    from minivess.figures import FigureInputs
    from minivess.statistics.compare import Arm
    from minivess.types import Array, BoolArray

REFERENCE = "#F0E442"  # yellow, none of the default colours of the arms
ERRORS = {
    "true positive": "#E6E6E6",
    "false positive": "#D55E00",
    "false negative": "#56B4E9",
}
_ONE_ROW_ARMS = 2
_LARGEST_PANEL_MM = 40.0
_LARGEST_HEIGHT_MM = 215.0
_LABEL_MM = 9.0
_LEGEND_MM = 10.0
_LINE_MM = 4.0


@dataclass(frozen=True)
class QualitativeCase:
    """One slice of a case: arrays of shape (x, y), spacing_um of (x, y).

    `seed` is the seed of the runs whose predictions these are; the values written beside the
    panels are of that seed and of the whole volume.
    """

    case: str
    image: Array
    reference: BoolArray
    predictions: Mapping[Arm, BoolArray]
    spacing_um: tuple[float, float]
    seed: int


def case_ranks(cases: pl.DataFrame, primary_metric: str, arm: Arm | None = None) -> dict[str, str]:
    """Case -> "best", "median" or "worst" by a metric of one arm, in this order.

    The metric's own direction counts; equal values are ordered by name; values of several seeds
    are averaged. Two cases are best and worst, one is best.

    Args:
        cases: the table cases.
        primary_metric: id of the metric.
        arm: by default the first one in sorted order.

    Raises:
        MinivessError: MV-STATE-002 where the arm has no case.
    """
    by_arm = case_values(cases.filter(pl.col("metric") == primary_metric)).get(primary_metric, {})
    values = by_arm.get(arm or next(iter(by_arm), ("", "")), {})
    if not values:
        raise MinivessError(
            "MV-STATE-002",
            what="there is no case to show",
            where=f"metric {primary_metric}, arm {arm or 'first'}",
            fix="run the evaluation of that arm's runs",
        )
    sign = 1 if METRICS[primary_metric].better == "lower" else -1
    ordered = sorted(values, key=lambda case: (sign * values[case], case))
    if len(ordered) < 3:
        return dict(zip(ordered, ("best", "worst"), strict=False))
    middle = ordered[(len(ordered) - 1) // 2]
    return {ordered[0]: "best", middle: "median", ordered[-1]: "worst"}


def qualitative_cases(
    cases: pl.DataFrame, primary_metric: str, arm: Arm | None = None
) -> list[str]:
    """The names of the cases to show, at most three: best, median, worst; see `case_ranks`."""
    return list(case_ranks(cases, primary_metric, arm))


def slice_to_show(reference: BoolArray) -> int:
    """Index along z of the slice of (x, y, z) with the most reference voxels, the first of equals.

    Where the reference is empty it is the middle slice.

    >>> slice_to_show(np.array([[[False, True, True]]]))
    1
    """
    counts = reference.sum(axis=(0, 1))
    return int(counts.argmax()) if counts.any() else reference.shape[2] // 2


def error_map(reference: BoolArray, prediction: BoolArray) -> npt.NDArray[np.float64]:
    """RGB of the slice: one colour each for true positive, false positive, false negative.

    Shape (x, y) to (x, y, 3); true negatives are black.
    """
    from matplotlib.colors import to_rgb

    rgb = np.zeros((*reference.shape, 3))
    rgb[reference & prediction] = to_rgb(ERRORS["true positive"])
    rgb[~reference & prediction] = to_rgb(ERRORS["false positive"])
    rgb[reference & ~prediction] = to_rgb(ERRORS["false negative"])
    return rgb


def draw(inputs: FigureInputs, config: FigureConfig) -> Figure:
    """With one or two arms a row per case; with more two rows, predictions above errors.

    Raises:
        MinivessError: MV-STATE-002 where no slice is given.
    """
    if not inputs.qualitative:
        raise MinivessError(
            "MV-STATE-002",
            what="the figure qualitative needs slices and has none",
            fix="give the slices of the cases that qualitative_cases names",
        )
    arms = inputs.arms or arms_of(inputs.tables["cases"])
    layout = _layout(arms, inputs.qualitative, config.width_mm)
    names = {arm: style.wrapped(name, layout.panel_mm - 4) for arm, name in arm_names(arms).items()}
    lines = max(name.count("\n") + 1 for name in names.values())
    ranks = case_ranks(inputs.tables["cases"], inputs.statistics.primary_metric, arms[0])
    styles = style.arm_styles(arms, config.colors)
    with style.styled():
        figure = style.new_figure(
            min(config.width_mm, _LABEL_MM + layout.columns * layout.panel_mm),
            layout.height_mm + _LINE_MM * (lines + layout.rows) + _LEGEND_MM,
        )
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0)  # type: ignore[union-attr,call-arg]
        panels = figure.subplots(
            len(layout.aspects),
            layout.columns,
            squeeze=False,
            gridspec_kw={"height_ratios": layout.aspects},
        )
        for index, case in enumerate(inputs.qualitative):
            block = panels[index * layout.rows : (index + 1) * layout.rows]
            _draw_case(block, layout, case, styles)
            _write_values(block, layout, case, inputs)
            text = f"{ranks[case.case]}: {case.case}" if case.case in ranks else case.case
            block[0][0].set_ylabel(style.wrapped(text, layout.panel_mm))
        _write_titles(panels, layout, names)
        _legend(figure)
    return figure


@dataclass(frozen=True)
class _Layout:
    """Where the panels of a case are: (row, column) within its block of rows."""

    rows: int
    columns: int
    reference: tuple[int, int]
    predictions: dict[Arm, tuple[int, int]]
    errors: dict[Arm, tuple[int, int]]
    aspects: list[float]
    panel_mm: float
    height_mm: float


def _layout(arms: Sequence[Arm], cases: Sequence[QualitativeCase], width_mm: float) -> _Layout:
    """Panels as large as width and height of a page allow."""
    one_row = len(arms) <= _ONE_ROW_ARMS
    rows, columns = (1, 2 + 2 * len(arms)) if one_row else (2, 1 + len(arms))
    aspects = [_aspect(case) for case in cases for _ in range(rows)]
    panel_mm = min(
        _LARGEST_PANEL_MM,
        (width_mm - _LABEL_MM) / columns,
        (_LARGEST_HEIGHT_MM - _LINE_MM * len(aspects)) / sum(aspects),
    )
    return _Layout(
        rows=rows,
        columns=columns,
        reference=(0, 1) if one_row else (1, 0),
        predictions={arm: (0, 2 + 2 * k if one_row else 1 + k) for k, arm in enumerate(arms)},
        errors={arm: (0, 3 + 2 * k) if one_row else (1, 1 + k) for k, arm in enumerate(arms)},
        aspects=aspects,
        panel_mm=panel_mm,
        height_mm=panel_mm * sum(aspects) + _LINE_MM * len(cases),
    )


def _aspect(case: QualitativeCase) -> float:
    """Height over width of the slice, in um."""
    (nx, ny), (sx, sy) = case.image.shape, case.spacing_um
    return float(ny * sy / (nx * sx))


def _draw_case(
    block: npt.NDArray[np.object_],
    layout: _Layout,
    case: QualitativeCase,
    styles: Mapping[Arm, style.ArmStyle],
) -> None:
    low, high = np.percentile(case.image, (0.5, 99.5))
    grey = np.clip((case.image - low) / max(float(high - low), 1e-12), 0, 1)
    grey = np.repeat(grey[..., np.newaxis], 3, axis=2)
    _show(block[0][0], grey, case)
    style.add_scale_bar(block[0][0], case.image.shape[0] * case.spacing_um[0])
    _show(block[layout.reference], _overlay(grey, case.reference, REFERENCE), case)
    for arm, look in styles.items():
        prediction = case.predictions[arm]
        _show(block[layout.predictions[arm]], _overlay(grey, prediction, look.color), case)
        _show(block[layout.errors[arm]], error_map(case.reference, prediction), case)


def _overlay(rgb: Array, mask: BoolArray, color: str) -> Array:
    """The image with the mask tinted."""
    from matplotlib.colors import to_rgb

    tinted = rgb.copy()
    tinted[mask] = 0.2 * rgb[mask] + 0.8 * np.array(to_rgb(color))
    return tinted


def _show(axes: Axes, rgb: Array, case: QualitativeCase) -> None:
    """An array (x, y, 3) with x to the right and y down, in um."""
    (nx, ny), (sx, sy) = rgb.shape[:2], case.spacing_um
    axes.imshow(rgb.transpose(1, 0, 2), extent=(0, nx * sx, ny * sy, 0), interpolation="none")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _write_values(
    block: npt.NDArray[np.object_], layout: _Layout, case: QualitativeCase, inputs: FigureInputs
) -> None:
    """The primary metric of the whole volume, below each prediction."""
    metric = inputs.statistics.primary_metric
    own = inputs.tables["cases"].filter(
        (pl.col("case") == case.case) & (pl.col("seed") == case.seed) & (pl.col("metric") == metric)
    )
    for arm, by_case in case_values(own).get(metric, {}).items():
        if arm in layout.predictions:
            text = f"{style.metric_label(metric)} {number(by_case[case.case])}"
            block[layout.predictions[arm]].set_xlabel(text, labelpad=2)


def _write_titles(
    panels: npt.NDArray[np.object_], layout: _Layout, names: Mapping[Arm, str]
) -> None:
    panels[0][0].set_title("image")
    panels[layout.reference].set_title("reference")
    for arm, name in names.items():
        panels[layout.predictions[arm]].set_title(name)
        panels[layout.errors[arm]].set_title("errors")


def _legend(figure: Figure) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=color, edgecolor="black", linewidth=0.4, label=f"{name} voxel")
        for name, color in ERRORS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
