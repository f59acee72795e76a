from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivess.config.deploy import DeployConfig
from minivess.deploy.parity import check_parity, compare_case, summarised
from minivess.errors import MinivessError
from minivess.metrics.overlap import dice


def report(profile: str = "strict", **found: float) -> dict[str, Any]:
    cases = {"a": {"max_difference": 0.0}, "b": {"max_difference": found["max_difference"]}}
    variants = {"float32": {"cases": cases, **found}}
    return {"run": "m/l/seed0/fold0", "profile": profile, "variants": variants}


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.3))
def test_dice_is_that_of_the_metrics(seed: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    trained = random.uniform(size=(5, 4, 3)).astype(np.float32)
    exported = np.clip(trained + random.normal(size=trained.shape) * noise, 0, 1)
    exported = exported.astype(np.float32)
    found = compare_case(trained, trained > 0.5, exported, 0.5)
    assert found.dice == pytest.approx(dice(exported > 0.5, trained > 0.5))
    assert found.max_difference == float(np.abs(exported - trained).max())
    assert found.differing_voxels == int(((exported > 0.5) != (trained > 0.5)).sum())
    assert found.differing_far <= found.differing_voxels


def test_voxels_at_the_threshold_may_differ() -> None:
    trained = np.array([[[0.5 + 1e-6, 0.6]]], dtype=np.float32)
    exported = np.array([[[0.5 - 1e-6, 0.4]]], dtype=np.float32)
    found = compare_case(trained, trained > 0.5, exported, 0.5)
    assert (found.differing_voxels, found.differing_far) == (2, 1)


def test_two_empty_masks_are_the_same() -> None:
    nothing = np.zeros((2, 2, 2), dtype=np.float32)
    assert compare_case(nothing, nothing, nothing, 0.5).dice == 1.0


def test_the_worst_case_counts() -> None:
    low = np.zeros((1, 1, 2), dtype=np.float32)
    high = np.array([[[0.9, 0.0]]], dtype=np.float32)
    same, other = (compare_case(low, low > 0.5, one, 0.5) for one in (low, high))
    found = summarised({"a": same, "b": other})
    assert found["max_difference"] == pytest.approx(0.9)
    assert found["min_dice"] == 0.0
    assert found["cases"]["a"]["dice"] == 1.0


def test_within_the_limits() -> None:
    check_parity(report(max_difference=1e-6, min_dice=1.0), DeployConfig(), "parity.json")


@pytest.mark.parametrize(
    "found", [{"max_difference": 0.5, "min_dice": 1.0}, {"max_difference": 0.0, "min_dice": 0.9}]
)
def test_beyond_a_limit(found: dict[str, float]) -> None:
    with pytest.raises(MinivessError) as caught:
        check_parity(report(**found), DeployConfig(), "results/x/parity.json")
    assert caught.value.code == "MV-DEPLOY-002"
    assert "deploy.parity_d" in caught.value.expected
    assert caught.value.where == "results/x/parity.json"
    assert "bfloat16" not in caught.value.fix


def test_the_profile_fast_is_named_where_it_may_be_the_reason() -> None:
    with pytest.raises(MinivessError, match="bfloat16"):
        check_parity(report("fast", max_difference=0.1, min_dice=1.0), DeployConfig(), "x")
