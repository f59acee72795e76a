"""The figure of single cases: which ones, which slice, and what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from minivess.config.schema import FigureConfig
from minivess.errors import MinivessError
from minivess.figures import FigureInputs
from minivess.figures.qualitative import (
    ERRORS,
    case_ranks,
    draw,
    error_map,
    qualitative_cases,
    slice_to_show,
)
from minivess.figures.style import save
from minivess.statistics import tables


def cases_table(values: list[float], metric: str = "dice"):  # type: ignore[no-untyped-def]
    return tables.from_rows(
        "cases",
        [
            {
                "experiment": "test",
                "model": "net",
                "loss": "a",
                "seed": 0,
                "fold": 0,
                "case": f"mv{index:02d}",
                "metric": metric,
                "value": value,
                "unit": "1",
                "status": "ok",
            }
            for index, value in enumerate(values)
        ],
    )


def test_best_median_worst() -> None:
    assert case_ranks(cases_table([0.5, 0.9, 0.1, 0.6, 0.7]), "dice") == {
        "mv01": "best",
        "mv03": "median",
        "mv02": "worst",
    }
    assert qualitative_cases(cases_table([5.0, 9.0, 1.0], "masd_um"), "masd_um") == [
        "mv02",
        "mv00",
        "mv01",
    ]


def test_few_and_equal_cases() -> None:
    assert case_ranks(cases_table([0.5]), "dice") == {"mv00": "best"}
    assert qualitative_cases(cases_table([0.5, 0.6]), "dice") == ["mv01", "mv00"]
    assert qualitative_cases(cases_table([0.5] * 4), "dice") == ["mv00", "mv01", "mv03"]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=20))
def test_the_choice_is_extreme_and_different(values: list[float]) -> None:
    chosen = [int(case[2:]) for case in qualitative_cases(cases_table(values), "dice")]
    assert len(set(chosen)) == 3
    best, median, worst = (values[index] for index in chosen)
    assert (best, worst) == (max(values), min(values))
    assert median in (
        sorted(values)[(len(values) - 1) // 2],
        sorted(values)[len(values) // 2],
    )


def test_no_case_of_that_arm() -> None:
    with pytest.raises(MinivessError) as caught:
        qualitative_cases(cases_table([0.5]), "dice", ("net", "other"))
    assert caught.value.code == "MV-STATE-002"


def test_slice_with_most_reference_voxels() -> None:
    reference = np.zeros((4, 4, 5), dtype=bool)
    assert slice_to_show(reference) == 2
    reference[0, 0, 1] = reference[0:2, 0, 3] = reference[0:2, 1, 4] = True
    assert slice_to_show(reference) == 3


def test_error_map_by_hand() -> None:
    reference = np.array([[True, False], [True, False]])
    prediction = np.array([[True, True], [False, False]])
    rgb = error_map(reference, prediction)
    assert tuple(rgb[0, 0]) == to_rgb(ERRORS["true positive"])
    assert tuple(rgb[0, 1]) == to_rgb(ERRORS["false positive"])
    assert tuple(rgb[1, 0]) == to_rgb(ERRORS["false negative"])
    assert tuple(rgb[1, 1]) == (0, 0, 0)


def test_images_are_in_um_with_x_to_the_right(inputs: FigureInputs) -> None:
    figure = draw(inputs, FigureConfig())
    errors = figure.axes[3].images[0]
    assert list(errors.get_extent()) == [0, 48, 32, 0]
    shown = inputs.qualitative[0]
    expected = error_map(shown.reference, shown.predictions[inputs.arms[0]])
    assert np.allclose(np.asarray(errors.get_array()), expected.transpose(1, 0, 2))
    assert figure.axes[3].get_aspect() == 1


@pytest.mark.parametrize(("n_arms", "panels"), [(1, 12), (2, 18), (3, 24), (6, 42)])
def test_number_of_panels(n_arms: int, panels: int, inputs_of: Callable[..., FigureInputs]) -> None:
    arms = tuple(("net", f"loss{index}") for index in range(n_arms))
    figure = draw(inputs_of(arms), FigureConfig())
    assert len(figure.axes) == panels
    assert all(axes.images for axes in figure.axes)


def test_constant_image_can_be_drawn(inputs: FigureInputs) -> None:
    flat = replace(inputs.qualitative[0], image=np.full((24, 16), 7.0))
    figure = draw(replace(inputs, qualitative=(flat,)), FigureConfig())
    assert np.all(np.isfinite(np.asarray(figure.axes[0].images[0].get_array())))


def test_without_slices(inputs: FigureInputs) -> None:
    with pytest.raises(MinivessError) as caught:
        draw(replace(inputs, qualitative=()), FigureConfig())
    assert caught.value.code == "MV-STATE-002"


def test_texts_in_the_svg(inputs: FigureInputs, tmp_path: Path) -> None:
    save(draw(inputs, FigureConfig()), tmp_path / "figures" / "one", [])
    svg = (tmp_path / "figures" / "one.svg").read_text(encoding="utf-8")
    worst = inputs.qualitative[-1].case
    texts = ["image", "reference", "errors", "dice_ce", "cldice", "10 µm", "Dice 0.000"]
    for text in (*texts, f"worst: {worst}", *(f"{name} voxel" for name in ERRORS)):
        assert f"<!-- {text} -->" in svg
