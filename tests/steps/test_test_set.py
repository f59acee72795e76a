"""Unlocking the test set: once per analysis, in the log, without a trace in the results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from minivess import audit, paths
from minivess.errors import MinivessError
from minivess.steps import data, test_set

from .conftest import LOCKED, RUNS, configured


def digests(root: Path) -> dict[str, str]:
    """Every file of the results but the log."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "audit" not in path.relative_to(root).parts[:1]
    }


def test_unlocking_is_a_line_and_no_byte_elsewhere(root: Path) -> None:
    before = digests(root)
    line = test_set.unlock_test(root, "A. Person", "the final result")
    assert digests(root) == before
    (logged,) = audit.verify(paths.audit_folder(root))
    assert logged == line
    assert (logged.who, logged.reason) == ("A. Person", "the final result")
    assert logged.facts["cases"] == [LOCKED]
    assert logged.facts["champion"] == "tiny/dice_ce"
    assert logged.facts["networks"] == 2
    assert logged.facts["analysis"] == test_set.planned_analysis(root).digest


def test_the_cross_validation_stays_locked_after_it(root: Path) -> None:
    test_set.unlock_test(root, "A. Person", "the final result")
    with pytest.raises(MinivessError, match="MV-LOCK-001"):
        data.preprocess(root, LOCKED)


def test_the_same_analysis_is_unlocked_once(root: Path) -> None:
    first = test_set.unlock_test(root, "A. Person", "the final result")
    assert test_set.unlock_test(root, "B. Person", "another reason") == first
    assert len(audit.verify(paths.audit_folder(root))) == 1


def test_what_decides_the_result_makes_another_analysis(root: Path) -> None:
    plain = test_set.planned_analysis(root).digest
    found = {plain}
    for changes in (
        {"inference": {"probability_threshold": 0.4}},
        {"evaluation": {"nsd_tolerance_um": 3.0}},
        {"preprocess": {"normalisation": "minmax"}},
    ):
        configured(Path(), **changes)
        found.add(test_set.planned_analysis(root).digest)
    assert len(found) == 4
    configured(Path(), figures={"qualitative": {"width_mm": 100}}, compute={"device": "auto"})
    assert test_set.planned_analysis(root).digest == plain
    weights = paths.weights(paths.run_folder(root, RUNS[1]))
    weights.write_bytes(weights.read_bytes() + b"0")
    assert test_set.planned_analysis(root).digest not in found


def test_other_weights_than_the_chosen_ones_are_refused(root: Path) -> None:
    paths.weights(paths.run_folder(root, RUNS[0])).write_bytes(b"others")
    with pytest.raises(MinivessError) as caught:
        test_set.unlock_test(root, "A. Person", "the final result")
    assert caught.value.code == "MV-STATE-005"
    assert not paths.audit_folder(root).exists()


def test_without_a_champion_nothing_is_unlocked(root: Path) -> None:
    paths.champions(root).unlink()
    with pytest.raises(MinivessError, match="MV-STATE-002"):
        test_set.unlock_test(root, "A. Person", "curiosity")
    assert not paths.audit_folder(root).exists()


def test_without_test_cases_there_is_nothing_to_unlock(root: Path) -> None:
    configured(Path(), folds={"n_folds": 2})
    with pytest.raises(MinivessError) as caught:
        test_set.unlock_test(root, "A. Person", "curiosity")
    assert (caught.value.code, caught.value.exit_status) == ("MV-LOCK-005", 9)


def test_a_log_that_was_changed_unlocks_nothing(root: Path) -> None:
    test_set.unlock_test(root, "A. Person", "the final result")
    log = paths.audit_folder(root) / audit.LOG
    values = json.loads(log.read_text(encoding="utf-8"))
    log.write_text(json.dumps({**values, "reason": "x"}) + "\n", encoding="utf-8")
    with pytest.raises(MinivessError, match="MV-LOCK-003"):
        test_set.unlock_test(root, "A. Person", "the final result")
