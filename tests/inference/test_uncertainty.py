from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from minivess.inference.ensemble import mean_probability
from minivess.inference.uncertainty import binary_entropy, uncertainty

if TYPE_CHECKING:
    from minivess.types import Array

PROBABILITIES = arrays(np.float32, (3, 4, 2), elements=st.floats(0, 1, width=32))


@given(PROBABILITIES)
def test_against_entropies_of_the_two_classes_by_scipy(members: Array) -> None:
    found = uncertainty(iter(members))
    classes = np.stack([members, 1 - members.astype(np.float64)])
    total = stats.entropy(classes.mean(axis=1))
    expected = stats.entropy(classes).mean(axis=0)
    assert np.allclose(found.entropy, total, atol=1e-6)
    assert np.allclose(found.expected_entropy, expected, atol=1e-6)
    assert np.allclose(found.mutual_information, total - expected, atol=1e-6)
    assert np.array_equal(found.probability, mean_probability(iter(members)))


@given(PROBABILITIES)
def test_disagreement_is_never_negative_and_doubt_never_above_ln_2(members: Array) -> None:
    found = uncertainty(iter(members))
    assert (found.mutual_information >= 0).all()
    assert (found.entropy <= np.float32(np.log(2))).all()
    for part in vars(found).values():
        assert part.dtype == np.float32
        assert np.isfinite(part).all()


def test_agreement_and_disagreement() -> None:
    """Sure and of one mind, sure and opposed, undecided together."""
    members = [np.float32([1, 1, 0.5]), np.float32([1, 0, 0.5])]
    found = uncertainty(members)
    ln2 = np.float32(np.log(2))
    assert found.entropy.tolist() == [0, ln2, ln2]
    assert found.expected_entropy.tolist() == [0, 0, ln2]
    assert found.mutual_information.tolist() == [0, ln2, 0]


def test_certainty_has_no_entropy_and_nobody_none() -> None:
    assert binary_entropy(np.array([0.0, 1.0])).tolist() == [0, 0]
    with pytest.raises(ValueError, match="needs a member"):
        uncertainty([])
