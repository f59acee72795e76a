"""pre-commit's configuration: valid, and every hook runs what is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
CONFIG = PROJECT / ".pre-commit-config.yaml"


def hooks() -> list[dict[str, Any]]:
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    return config["repos"][0]["hooks"]


def test_the_configuration_is_valid() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pre_commit", "validate-config", str(CONFIG)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_a_hook_for_each_purpose() -> None:
    names = {hook["id"] for hook in hooks()}
    wanted = {"ruff", "ruff-format", "snakefmt", "mypy", "codespell", "check-added-large-files"}
    assert wanted | {"detect-secrets", "end-of-file-fixer"} <= names


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook["id"])
def test_a_hook_runs_what_uv_lock_or_the_configuration_pins(hook: dict[str, Any]) -> None:
    words = hook["entry"].split()
    if hook["language"] == "system" and words[:2] == ["uv", "lock"]:
        return
    if hook["language"] == "system":
        assert words[:3] == ["uv", "run", "--no-sync"]
        assert Path(sys.executable).with_name(words[3]).exists()
    else:
        assert hook["language"] == "python"
        assert all(re.search(r"==\d", package) for package in hook["additional_dependencies"])


def test_codespell_finds_mistakes_with_the_projects_settings(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("codespell")
    wrong = tmp_path / "page.md"
    wrong.write_text("".join(["t", "eh", " vessel\n"]), encoding="utf-8")
    settings = ["--toml", str(PROJECT / "pyproject.toml")]
    done = subprocess.run([program, *settings, wrong], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the" in done.stdout.lower()


def test_the_spelling_of_docs_is_right() -> None:
    program = Path(sys.executable).with_name("codespell")
    done = subprocess.run(
        [program, "docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "minivess", "paper"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_recipe_of_the_bill_of_materials_names_a_version() -> None:
    text = (PROJECT / "justfile").read_text(encoding="utf-8")
    assert re.search(r"cyclonedx-bom==\d+\.\d+\.\d+", text)
    assert "--spec-version 1.6" in text
    assert json.dumps("sbom.cdx.json") in text
