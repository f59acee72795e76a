"""Random numbers: a function of seed, purpose and indices, and of nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from minivess.seeding import derive_seed, generator, torch_seeded

INDEX = st.integers(-(2**63), 2**63) | st.text(
    st.characters(codec="utf-8", exclude_characters="\x1f"), max_size=8
)
PURPOSE = st.text(st.characters(codec="utf-8", exclude_characters="\x1f"), max_size=8)


@settings(deadline=None)
@given(st.integers(0, 2**64), PURPOSE, st.lists(INDEX, max_size=4))
def test_the_seed_is_the_hash_of_its_arguments(
    seed: int, purpose: str, indices: list[int | str]
) -> None:
    text = "\x1f".join(map(str, [seed, purpose, *indices]))
    expected = int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) // 2
    assert derive_seed(seed, purpose, *indices) == expected
    assert 0 <= expected < 2**63


@settings(deadline=None)
@given(
    st.tuples(st.integers(0, 9), PURPOSE, st.lists(st.integers(0, 99), max_size=3)),
    st.tuples(st.integers(0, 9), PURPOSE, st.lists(st.integers(0, 99), max_size=3)),
)
def test_other_arguments_give_another_seed(
    first: tuple[int, str, list[int]], second: tuple[int, str, list[int]]
) -> None:
    assume(first != second)
    assert derive_seed(first[0], first[1], *first[2]) != derive_seed(
        second[0], second[1], *second[2]
    )


def test_the_seed_is_the_same_in_every_process() -> None:
    """Python's own hash of a text would not be."""
    code = "from minivess.seeding import derive_seed; print(derive_seed(1, 'augment', 'mv01', 2))"
    made = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "12345"},
    )
    assert int(made.stdout) == derive_seed(1, "augment", "mv01", 2)


def test_generators_repeat_and_do_not_touch_the_global_one() -> None:
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = generator(3, "test", 1).random(5)
    assert first.tolist() == generator(3, "test", 1).random(5).tolist()
    assert first.tolist() != generator(4, "test", 1).random(5).tolist()
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_numbers_of_neighbouring_seeds_are_uniform_and_unrelated() -> None:
    drawn = np.array([generator(seed, "test").random(2) for seed in range(2000)])
    assert stats.kstest(drawn[:, 0], "uniform").pvalue > 0.001
    assert abs(np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]) < 0.1
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1]) < 0.1


def test_torch_is_seeded_for_the_block_and_restored_after_it() -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch_seeded(0, "test", 1):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with torch_seeded(0, "test", 1):
        assert torch.equal(torch.rand(3), inside)
    with torch_seeded(0, "test", 2):
        assert not torch.equal(torch.rand(3), inside)


def test_torch_is_restored_after_an_error_too() -> None:
    import torch

    torch.manual_seed(5)
    state = torch.get_rng_state()

    def draw_and_fail() -> None:
        with torch_seeded(0, "test"):
            torch.rand(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), state)
