from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from minivess.errors import MinivessError
from minivess.metrics import METRICS
from minivess.metrics.evaluate import MetricValue, case_rows, evaluate_case
from minivess.metrics.surface import diagonal_um
from minivess.seeding import generator
from minivess.statistics import tables
from minivess.types import BoolArray, RunKey

MINIVESS_MASK = Path(__file__).parents[3] / "shared" / "data" / "minivess_mask"
SPACING = (1.0, 2.0, 5.0)
masks = hnp.arrays(np.bool_, (5, 4, 3))


def tube() -> BoolArray:
    mask = np.zeros((20, 9, 9), dtype=bool)
    mask[2:18, 3:6, 3:6] = True
    return mask


def by_name(values: list[MetricValue]) -> dict[str, float]:
    return {value.metric: value.value for value in values}


def test_all_metrics_of_the_registry_in_its_order_and_units() -> None:
    values = evaluate_case(tube(), tube(), SPACING, 2.0)
    assert [value.metric for value in values] == list(METRICS)
    assert [value.unit for value in values] == [metric.unit for metric in METRICS.values()]
    assert all(type(value.value) is float for value in values)


def test_a_perfect_prediction() -> None:
    values = by_name(evaluate_case(tube(), tube(), SPACING, 2.0))
    fraction = values.pop("volume_fraction")
    assert fraction == 16 * 9 / (20 * 81)
    for name, value in values.items():
        assert value == (1 if METRICS[name].better == "higher" else 0), name


def test_a_hand_computed_case() -> None:
    reference = tube()
    prediction = np.roll(reference, 1, axis=2)
    prediction[10, :, :] = False
    values = by_name(evaluate_case(prediction, reference, SPACING, 2.0))
    assert values["dice"] == 2 * (15 * 6) / (15 * 9 + 16 * 9)
    assert values["hd95_um"] == 5
    assert values["tprec"] == 1
    assert values["betti0_error"] == 1
    assert values["betti1_error"] == 0
    assert values["volume_fraction_error"] == pytest.approx(9 / (20 * 81))


@pytest.mark.parametrize(
    ("prediction", "reference", "status"),
    [
        (tube(), np.zeros_like(tube()), "empty_reference"),
        (np.zeros_like(tube()), tube(), "empty_prediction"),
    ],
)
def test_one_empty_mask(prediction: BoolArray, reference: BoolArray, status: str) -> None:
    result = evaluate_case(prediction, reference, SPACING, 2.0)
    assert {value.status for value in result} == {status}
    values = by_name(result)
    worst = diagonal_um((20, 9, 9), SPACING)
    assert values["hd95_um"] == values["masd_um"] == worst
    for name in ("dice", "cldice", "tprec", "tsens", "nsd"):
        assert values[name] == 0, name
    assert (values["betti0_error"], values["betti1_error"]) == (1, 0)
    assert values["volume_fraction"] == (144 / 1620 if prediction.any() else 0)
    assert values["volume_fraction_error"] == 144 / 1620


def test_two_empty_masks() -> None:
    empty = np.zeros((3, 3, 3), dtype=bool)
    result = evaluate_case(empty, empty, SPACING, 2.0)
    assert {value.status for value in result} == {"both_empty"}
    for name, value in by_name(result).items():
        assert value == (1 if METRICS[name].better == "higher" else 0), name


@settings(deadline=None)
@given(masks, masks)
def test_never_nan_and_always_in_range(prediction: BoolArray, reference: BoolArray) -> None:
    values = by_name(evaluate_case(prediction, reference, SPACING, 2.0))
    worst = diagonal_um(prediction.shape, SPACING)
    for name, value in values.items():
        assert math.isfinite(value), name
        assert value >= 0, name
        if METRICS[name].unit == "um":
            assert value <= worst, name
        elif not name.startswith("betti"):
            assert value <= 1, name


@settings(deadline=None, max_examples=50)
@given(masks, masks)
def test_swapping_the_masks_swaps_tprec_and_tsens(a: BoolArray, b: BoolArray) -> None:
    forward = by_name(evaluate_case(a, b, SPACING, 2.0))
    backward = by_name(evaluate_case(b, a, SPACING, 2.0))
    assert (forward["tprec"], forward["tsens"]) == (backward["tsens"], backward["tprec"])
    for name in set(METRICS) - {"tprec", "tsens", "volume_fraction"}:
        assert forward[name] == backward[name], name


@settings(deadline=None, max_examples=50)
@given(masks, masks, st.sampled_from([0.25, 2.0, 8.0]))
def test_only_distances_depend_on_the_scale(a: BoolArray, b: BoolArray, scale: float) -> None:
    small = by_name(evaluate_case(a, b, SPACING, 2.0))
    scaled = (scale * SPACING[0], scale * SPACING[1], scale * SPACING[2])
    large = by_name(evaluate_case(a, b, scaled, 2.0 * scale))
    for name, value in small.items():
        factor = scale if METRICS[name].unit == "um" else 1.0
        assert large[name] == pytest.approx(factor * value), name


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prediction": np.ones((20, 9, 8), dtype=bool)}, "MV-DATA-004"),
        ({"spacing_um": (1.0, 1.0, 0.0)}, "MV-DATA-009"),
        ({"nsd_tolerance_um": 0.0}, "MV-CONFIG-002"),
    ],
)
def test_unusable_input_is_refused(change: dict[str, object], code: str) -> None:
    arguments = {
        "prediction": tube(),
        "reference": tube(),
        "spacing_um": SPACING,
        "nsd_tolerance_um": 2.0,
    }
    with pytest.raises(MinivessError) as caught:
        evaluate_case(**(arguments | change))  # type: ignore[arg-type]
    assert caught.value.code == code


def test_label_values_are_refused() -> None:
    with pytest.raises(TypeError, match="reference must be a boolean array, not uint8"):
        evaluate_case(tube(), tube().astype(np.uint8), SPACING, 2.0)


def test_rows_make_the_table_of_cases() -> None:
    values = evaluate_case(tube(), np.zeros_like(tube()), SPACING, 2.0)
    rows = case_rows("demo", RunKey("dynunet", "dice_ce", 3, 1), "mv01", values)
    assert [list(row) for row in rows] == [list(tables.COLUMNS["cases"])] * len(METRICS)
    table = tables.schema("cases").validate(tables.from_rows("cases", rows))
    assert set(table["metric"]) == set(METRICS)
    assert table.select("model", "loss", "seed", "fold", "case", "status").unique().rows() == [
        ("dynunet", "dice_ce", 3, 1, "mv01", "empty_reference")
    ]


def test_no_torch() -> None:
    code = (
        "import sys, numpy as np; from minivess.metrics.evaluate import evaluate_case; "
        "import minivess.metrics.threshold; m = np.ones((3, 3, 3), dtype=bool); "
        "evaluate_case(m, m, (1.0, 1.0, 1.0), 1.0); "
        "sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not MINIVESS_MASK.is_dir(), reason=f"no folder {MINIVESS_MASK}")
def test_a_real_mask_against_a_perturbed_copy() -> None:
    import nibabel as nib

    image = nib.load(MINIVESS_MASK / "mv68_y.nii.gz")
    reference = np.asarray(image.dataobj[128:256, 128:256, :40]) > 0  # type: ignore[attr-defined]
    holes = generator(0, "test-evaluate").random(reference.shape) < 1e-4
    prediction = reference & ~ndimage.binary_dilation(holes, iterations=2)
    result = evaluate_case(prediction, reference, (1.0, 1.0, 5.0), 2.0)
    values = by_name(result)
    assert {value.status for value in result} == {"ok"}
    assert 0.8 < values["dice"] < 1
    assert values["tsens"] < 1
    assert values["nsd"] > 0.5
    assert 0 < values["masd_um"] < 2
