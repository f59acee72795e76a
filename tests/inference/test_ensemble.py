from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minivess import output, paths
from minivess.errors import MinivessError
from minivess.inference.ensemble import (
    Member,
    check_distinct,
    check_unseen,
    mean_probability,
    read_member,
    vote_fraction,
)

if TYPE_CHECKING:
    from pathlib import Path

    from minivess.types import Array

PROBABILITIES = arrays(np.float32, (3, 4, 2, 2), elements=st.floats(0, 1, width=32))


def member(name: str, digest: str = "", seen: tuple[str, ...] = ()) -> Member:
    return Member(name, digest or name, frozenset(seen))


def write_run(run: Path, weights: bytes) -> None:
    run.mkdir(parents=True)
    paths.weights(run).write_bytes(weights)
    cases = {"train": ["a", "b"], "selection": ["c"], "validation": ["d"]}
    output.write_json({"cases": cases}, paths.run_record(run))


def test_a_member_knows_its_file_and_what_it_has_seen(tmp_path: Path) -> None:
    write_run(tmp_path / "run", b"weights")
    found = read_member(tmp_path / "run", "x")
    assert found.name == "x"
    assert found.seen == {"a", "b", "c"}
    assert found.digest == hashlib.sha256(b"weights").hexdigest()


def test_a_member_has_seen_what_the_weights_that_it_began_with_have(tmp_path: Path) -> None:
    write_run(tmp_path / "run", b"weights")
    path = paths.run_record(tmp_path / "run")
    record = output.read_json(path)
    record["warm_start"] = {"file": "x.safetensors", "seen": ["locked"]}
    output.write_json(record, path)
    found = read_member(tmp_path / "run", "x")
    assert found.seen == {"a", "b", "c", "locked"}
    with pytest.raises(MinivessError, match="case locked"):
        check_unseen([found], ["locked"])


def test_the_digest_is_that_of_the_file_not_of_the_record(tmp_path: Path) -> None:
    for name, weights in (("one", b"same"), ("two", b"same"), ("three", b"other")):
        write_run(tmp_path / name, weights)
    one, two, three = (read_member(tmp_path / name, name) for name in ("one", "two", "three"))
    check_distinct([one, three])
    with pytest.raises(MinivessError, match="one and two") as caught:
        check_distinct([one, three, two])
    assert caught.value.code == "MV-ENSEMBLE-001"
    assert caught.value.exit_status == 9


@pytest.mark.parametrize("missing", ["weights", "run_record"])
def test_a_member_that_is_not_trained(tmp_path: Path, missing: str) -> None:
    write_run(tmp_path / "run", b"weights")
    getattr(paths, missing)(tmp_path / "run").unlink()
    with pytest.raises(MinivessError) as caught:
        read_member(tmp_path / "run", "x")
    assert caught.value.code == "MV-STATE-002"


def test_a_case_that_a_member_has_seen() -> None:
    # Members of two folds: each was trained on what the other one holds out.
    folds = [member("fold0", seen=("a", "b")), member("fold1", seen=("c", "d"))]
    check_unseen(folds, ["test1", "test2"])
    check_unseen(folds[:1], ["c", "d"])
    with pytest.raises(MinivessError, match="fold1") as caught:
        check_unseen(folds, ["test1", "c"])
    assert caught.value.code == "MV-ENSEMBLE-002"
    assert caught.value.exit_status == 9


@given(PROBABILITIES)
def test_the_mean_is_that_of_numpy(members: Array) -> None:
    found = mean_probability(iter(members))
    assert found.dtype == np.float32
    np.testing.assert_array_max_ulp(found, members.mean(axis=0, dtype=np.float64).astype("f4"), 1)
    assert np.array_equal(mean_probability([members[0]] * 4), members[0])


@given(arrays(np.bool_, (4, 3, 2, 2)))
def test_more_than_half_is_a_majority(masks: Array) -> None:
    assert np.array_equal(vote_fraction(iter(masks)) > 0.5, masks.sum(axis=0) >= 3)
    assert np.array_equal(vote_fraction(iter(masks[:3])) > 0.5, masks[:3].sum(axis=0) >= 2)


def test_nobody_is_no_ensemble() -> None:
    with pytest.raises(ValueError, match="needs a member"):
        mean_probability([])
    with pytest.raises(ValueError, match="needs a member"):
        vote_fraction([])
