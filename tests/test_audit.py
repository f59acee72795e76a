"""The audit log: what is written is found again, and whatever is done to it is noticed."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import audit, provenance
from minivess.errors import MinivessError


def log_of(folder: Path, count: int) -> list[str]:
    """A log of so many lines; its lines."""
    for number in range(count):
        audit.append(folder, "unlock", f"person {number}", f"reason {number}", {"n": number})
    return (folder / audit.LOG).read_text(encoding="utf-8").splitlines(keepends=True)


def rewritten(folder: Path, lines: list[str]) -> str:
    """The code of the error after the log has been replaced."""
    (folder / audit.LOG).write_text("".join(lines), encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        audit.verify(folder)
    assert caught.value.exit_status == 9
    return caught.value.code


def test_lines_come_back_in_a_chain(tmp_path: Path) -> None:
    log_of(tmp_path, 3)
    lines = audit.verify(tmp_path)
    assert [line.number for line in lines] == [1, 2, 3]
    assert [line.facts["n"] for line in lines] == [0, 1, 2]
    assert [line.previous for line in lines] == [audit.FIRST, lines[0].digest, lines[1].digest]
    assert lines[0].time.endswith("+00:00")


def test_the_digest_is_what_the_page_says(tmp_path: Path) -> None:
    """Recomputed without the module: SHA-256 of the line's other fields as sorted JSON."""
    import hashlib

    for text in log_of(tmp_path, 2):
        values = json.loads(text)
        digest = values.pop("digest")
        canonical = json.dumps(values, sort_keys=True).encode()
        assert digest == hashlib.sha256(canonical).hexdigest()


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert audit.verify(tmp_path / "none") == []


@pytest.mark.parametrize("key", ["who", "reason", "time", "event", "facts", "number", "digest"])
def test_a_changed_field_is_found(tmp_path: Path, key: str) -> None:
    lines = log_of(tmp_path, 3)
    values = json.loads(lines[1])
    values[key] = 7 if key == "number" else "other"
    lines[1] = json.dumps(values, sort_keys=True) + "\n"
    assert rewritten(tmp_path, lines) == "MV-LOCK-003"


def test_a_changed_line_with_a_new_digest_breaks_the_next(tmp_path: Path) -> None:
    lines = log_of(tmp_path, 3)
    values = json.loads(lines[1])
    del values["digest"]
    values["reason"] = "another"
    values["digest"] = provenance.json_sha256(values)
    lines[1] = json.dumps(values, sort_keys=True) + "\n"
    assert rewritten(tmp_path, lines) == "MV-LOCK-003"


def test_a_last_line_with_a_new_digest_breaks_the_seal(tmp_path: Path) -> None:
    lines = log_of(tmp_path, 3)
    values = json.loads(lines[2])
    del values["digest"]
    values["reason"] = "another"
    values["digest"] = provenance.json_sha256(values)
    lines[2] = json.dumps(values, sort_keys=True) + "\n"
    assert rewritten(tmp_path, lines) == "MV-LOCK-003"


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_removed_line_is_found_also_at_the_end(tmp_path: Path, gone: int) -> None:
    lines = log_of(tmp_path, 3)
    assert rewritten(tmp_path, lines[:gone] + lines[gone + 1 :]) == "MV-LOCK-003"


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_cut_tail_is_found(tmp_path: Path, kept: int) -> None:
    assert rewritten(tmp_path, log_of(tmp_path, 3)[:kept]) == "MV-LOCK-003"


def test_moved_and_repeated_lines_are_found(tmp_path: Path) -> None:
    one, two, three = log_of(tmp_path, 3)
    assert rewritten(tmp_path, [two, one, three]) == "MV-LOCK-003"
    assert rewritten(tmp_path, [one, three, two]) == "MV-LOCK-003"
    assert rewritten(tmp_path, [one, two, three, three]) == "MV-LOCK-003"


def test_half_a_line_and_a_missing_log_are_found(tmp_path: Path) -> None:
    lines = log_of(tmp_path, 2)
    assert rewritten(tmp_path, [lines[0], lines[1][:40]]) == "MV-LOCK-003"
    (tmp_path / audit.LOG).unlink()
    with pytest.raises(MinivessError, match="a seal without a log"):
        audit.verify(tmp_path)


def test_a_missing_seal_is_found(tmp_path: Path) -> None:
    log_of(tmp_path, 2)
    (tmp_path / audit.SEAL).unlink()
    with pytest.raises(MinivessError, match="MV-LOCK-003"):
        audit.verify(tmp_path)


def test_a_log_that_was_changed_takes_no_more_lines(tmp_path: Path) -> None:
    lines = log_of(tmp_path, 2)
    (tmp_path / audit.LOG).write_text(lines[0], encoding="utf-8")
    with pytest.raises(MinivessError, match="MV-LOCK-003"):
        audit.append(tmp_path, "unlock", "me", "because", {})


def test_killed_between_log_and_seal_the_next_line_goes_on(tmp_path: Path) -> None:
    log_of(tmp_path, 1)
    seal = (tmp_path / audit.SEAL).read_bytes()
    audit.append(tmp_path, "unlock", "me", "because", {})
    (tmp_path / audit.SEAL).write_bytes(seal)
    assert len(audit.verify(tmp_path)) == 2
    audit.append(tmp_path, "unlock", "me", "again", {})
    assert [line.reason for line in audit.verify(tmp_path)] == ["reason 0", "because", "again"]


@pytest.mark.parametrize(("who", "reason"), [("", "because"), ("me", "  \n")])
def test_a_name_and_a_reason_are_needed(tmp_path: Path, who: str, reason: str) -> None:
    with pytest.raises(MinivessError) as caught:
        audit.append(tmp_path, "unlock", who, reason, {})
    assert caught.value.code == "MV-LOCK-004"
    assert not (tmp_path / audit.LOG).exists()


@settings(deadline=None, max_examples=25)
@given(who=st.text(min_size=1), reason=st.text(min_size=1), data=st.data())
def test_any_text_survives_and_any_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, who: str, reason: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    if not (who.strip() and reason.strip()):
        return
    audit.append(folder, "unlock", who, reason, {"who": who})
    (line,) = audit.verify(folder)
    assert (line.who, line.reason, line.facts["who"]) == (who.strip(), reason.strip(), who)
    written = bytearray((folder / audit.LOG).read_bytes())
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    (folder / audit.LOG).write_bytes(bytes(written))
    with pytest.raises(MinivessError, match="MV-LOCK-003"):
        audit.verify(folder)


def _append(folder: str, number: int) -> None:
    audit.append(Path(folder), "unlock", f"process {number}", "at once", {})


def test_processes_at_once_lose_no_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append, args=(str(tmp_path), n)) for n in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert {line.who for line in audit.verify(tmp_path)} == {f"process {n}" for n in range(6)}
