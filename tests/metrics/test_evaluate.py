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
from minivess.metrics.definitions import calibration
from minivess.metrics.evaluate import MetricValue, case_rows, evaluate_case
from minivess.metrics.surface import diagonal_um
from minivess.seeding import generator
from minivess.statistics import tables
from minivess.types import BoolArray, RunKey, Spacing

MINIVESS_MASK = Path(__file__).parents[3] / "shared" / "data" / "minivess_mask"
SPACING = (1.0, 2.0, 5.0)
masks = hnp.arrays(np.bool_, (5, 4, 3))


def tube() -> BoolArray:
    mask = np.zeros((20, 9, 9), dtype=bool)
    mask[2:18, 3:6, 3:6] = True
    return mask


def evaluated(
    prediction: BoolArray,
    reference: BoolArray,
    spacing_um: Spacing = SPACING,
    tolerance_um: float = 2.0,
) -> list[MetricValue]:
    """The metrics of a prediction that is sure of itself."""
    probability = prediction.astype(np.float32)
    return evaluate_case(
        prediction, reference, probability, spacing_um, tolerance_um, 2 * tolerance_um
    )


def assert_best(values: dict[str, float]) -> None:
    """What a prediction without any error gets."""
    for name, value in values.items():
        better = METRICS[name].better
        if better != "neither":
            assert value == pytest.approx(1 if better == "higher" else 0, abs=1e-6), name


def by_name(values: list[MetricValue]) -> dict[str, float]:
    return {value.metric: value.value for value in values}


def test_all_metrics_of_the_registry_in_its_order_and_units() -> None:
    values = evaluated(tube(), tube())
    assert [value.metric for value in values] == list(METRICS)
    assert [value.unit for value in values] == [metric.unit for metric in METRICS.values()]
    assert all(type(value.value) is float for value in values)


def test_a_perfect_prediction() -> None:
    values = by_name(evaluated(tube(), tube()))
    assert values["volume_fraction"] == 16 * 9 / (20 * 81)
    assert (values["betti0"], values["euler"], values["n_branches"]) == (1, 1, 1)
    assert_best(values)


def test_a_hand_computed_case() -> None:
    reference = tube()
    prediction = np.roll(reference, 1, axis=2)
    prediction[10, :, :] = False
    values = by_name(evaluated(prediction, reference))
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
    result = evaluated(prediction, reference)
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
    result = evaluated(empty, empty)
    assert {value.status for value in result} == {"both_empty"}
    values = by_name(result)
    assert_best(values)
    described = {name: values[name] for name in METRICS if METRICS[name].better == "neither"}
    assert described.pop("tortuosity") == 1
    assert set(described.values()) == {0}


@settings(deadline=None)
@given(masks, masks)
def test_never_nan_and_always_in_range(prediction: BoolArray, reference: BoolArray) -> None:
    values = by_name(evaluated(prediction, reference))
    worst = diagonal_um(prediction.shape, SPACING)
    for name, value in values.items():
        assert math.isfinite(value), name
        limits = {
            "0 to 1": (0, 1),
            "0 to the diagonal": (0, worst),
            "from 0": (0, math.inf),
            "from 1": (1, math.inf),
            "0 to 16.12": (0, 16.12),
            "any whole number": (-math.inf, math.inf),
        }[METRICS[name].range]
        assert limits[0] <= value <= limits[1], name


@settings(deadline=None, max_examples=50)
@given(masks, masks)
def test_swapping_the_masks_swaps_tprec_and_tsens(a: BoolArray, b: BoolArray) -> None:
    forward = by_name(evaluated(a, b))
    backward = by_name(evaluated(b, a))
    assert (forward["tprec"], forward["tsens"]) == (backward["tsens"], backward["tprec"])
    mirrored = {
        "tprec": "tsens",
        "sensitivity": "precision",
        "missing_length_um": "spurious_length_um",
    }
    for name, other in mirrored.items():
        assert (forward[name], forward[other]) == (backward[other], backward[name])
    of_one = {name for name in METRICS if METRICS[name].better == "neither"} | {"component_dice"}
    of_probability = {metric.id for metric in calibration.DEFINITIONS}
    one_sided = of_one | of_probability | set(mirrored) | set(mirrored.values())
    for name in set(METRICS) - one_sided:
        assert forward[name] == backward[name], name


@settings(deadline=None, max_examples=50)
@given(masks, masks, st.sampled_from([0.25, 2.0, 8.0]))
def test_only_distances_depend_on_the_scale(a: BoolArray, b: BoolArray, scale: float) -> None:
    small = by_name(evaluated(a, b))
    scaled = (scale * SPACING[0], scale * SPACING[1], scale * SPACING[2])
    large = by_name(evaluated(a, b, scaled, 2.0 * scale))
    for name, value in small.items():
        factor = scale ** {"1": 0, "um": 1, "um^3": 3}[METRICS[name].unit]
        assert large[name] == pytest.approx(factor * value), name


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"prediction": np.ones((20, 9, 8), dtype=bool)}, "MV-DATA-004"),
        ({"spacing_um": (1.0, 1.0, 0.0)}, "MV-DATA-009"),
        ({"nsd_tolerance_um": 0.0}, "MV-CONFIG-002"),
        ({"junction_tolerance_um": 0.0}, "MV-CONFIG-002"),
        ({"probability": np.zeros((20, 9, 8))}, "MV-DATA-004"),
        ({"probability": np.full((20, 9, 9), 1.5)}, "MV-DATA-006"),
        ({"probability": np.full((20, 9, 9), np.nan)}, "MV-DATA-006"),
    ],
)
def test_unusable_input_is_refused(change: dict[str, object], code: str) -> None:
    arguments = {
        "prediction": tube(),
        "reference": tube(),
        "probability": tube().astype(np.float32),
        "spacing_um": SPACING,
        "nsd_tolerance_um": 2.0,
        "junction_tolerance_um": 5.0,
    }
    with pytest.raises(MinivessError) as caught:
        evaluate_case(**(arguments | change))  # type: ignore[arg-type]
    assert caught.value.code == code


def test_the_volume_around_the_masks_changes_only_what_counts_its_voxels() -> None:
    prediction, reference = np.roll(tube(), 1, axis=2), tube()
    alone = by_name(evaluated(prediction, reference))
    around = by_name(
        evaluated(*(np.pad(mask, ((3, 1), (2, 5), (4, 2))) for mask in (prediction, reference)))
    )
    counting = {"volume_fraction", "volume_fraction_error"} | {
        metric.id for metric in calibration.DEFINITIONS
    }
    for name in set(METRICS) - counting:
        assert alone[name] == around[name], name


def test_the_order_in_memory_changes_nothing() -> None:
    prediction, reference = np.roll(tube(), 1, axis=2), tube()
    slow = evaluated(np.asfortranarray(prediction), np.asfortranarray(reference))
    assert slow == evaluated(prediction, reference)


def test_label_values_are_refused() -> None:
    with pytest.raises(TypeError, match="reference must be a boolean array, not uint8"):
        evaluated(tube(), tube().astype(np.uint8))


def test_rows_make_the_table_of_cases() -> None:
    values = evaluated(tube(), np.zeros_like(tube()))
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
        "evaluate_case(m, m, m * 1.0, (1.0, 1.0, 1.0), 1.0, 1.0); "
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
    result = evaluated(prediction, reference, (1.0, 1.0, 5.0))
    values = by_name(result)
    assert {value.status for value in result} == {"ok"}
    assert 0.8 < values["dice"] < 1
    assert values["tsens"] < 1
    assert values["nsd"] > 0.5
    assert 0 < values["masd_um"] < 2
