"""What made a result: digests of files and code, git, versions."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.provenance import (
    PACKAGE,
    VERSIONED,
    file_sha256,
    git_state,
    json_sha256,
    system_facts,
)


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "b")


@settings(deadline=None)
@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=5))
def test_the_digest_of_a_value_forgets_only_the_order_of_keys(value: dict[str, Any]) -> None:
    assert json_sha256(value) == json_sha256(dict(reversed(value.items())))
    assert json_sha256(value) == json_sha256(json.loads(json.dumps(value)))
    assert json_sha256(value) != json_sha256({**value, "one more\0": 1})


def git(folder: Path, *words: str) -> None:
    program = shutil.which("git")
    if program is None:
        pytest.skip("the program git is missing")
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run([program, *who, *words], cwd=folder, check=True, capture_output=True)


def test_the_state_of_git_is_commit_and_whether_tracked_files_changed(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a").write_text("1", encoding="utf-8")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    state = git_state(tmp_path)
    assert len(state["git_commit"]) == 40
    assert state["git_dirty"] == "false"
    (tmp_path / "untracked").touch()
    assert git_state(tmp_path) == state
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert git_state(tmp_path) == {**state, "git_dirty": "true"}


def test_outside_of_git_and_without_git_the_state_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = {"git_commit": "unknown", "git_dirty": "unknown"}
    monkeypatch.delenv("MINIVESS_GIT_COMMIT", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == unknown
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(PACKAGE) == unknown


@pytest.mark.parametrize(
    ("recorded", "commit", "dirty"),
    [("0123abc", "0123abc", "unknown"), ("0123abc-dirty", "0123abc", "true")],
)
def test_a_container_knows_the_commit_it_was_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str, commit: str, dirty: str
) -> None:
    monkeypatch.setenv("MINIVESS_GIT_COMMIT", recorded)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path) == {"git_commit": commit, "git_dirty": dirty}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(PACKAGE)["git_commit"] == commit


def test_a_repository_counts_more_than_what_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIVESS_GIT_COMMIT", "0123abc")
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a").write_text("1", encoding="utf-8")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    assert len(git_state(tmp_path)["git_commit"]) == 40


def test_system_facts_name_the_versions_of_what_computes() -> None:
    import numpy as np

    facts = system_facts()
    assert facts["sys_numpy"] == np.__version__
    assert {f"sys_{name}" for name in VERSIONED} < set(facts)
    assert all(isinstance(value, str) and value for value in facts.values())
