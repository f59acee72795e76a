"""The command as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from minivess import __version__


def minivess(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "minivess", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_verb() -> None:
    text = minivess("--help").stdout
    for verb in ("data", "train", "predict", "evaluate", "export", "compare", "figure", "query"):
        assert verb in text


def test_version() -> None:
    assert minivess("version").stdout.strip() == __version__


def test_a_misspelt_verb_has_a_suggestion_and_status_2() -> None:
    done = minivess("trian")
    assert done.returncode == 2
    assert "train" in done.stderr


def test_a_step_before_its_time_says_what_to_run(tmp_path: Path) -> None:
    done = minivess("summary", "-e", "demo", cwd=tmp_path)
    assert done.returncode == 5
    assert "MV-STATE-002" in done.stderr
    assert "just experiment demo" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_is_left_beside_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "summary.log"
    done = minivess("--log", str(log), "summary", "-e", "demo", cwd=tmp_path)
    record = json.loads((tmp_path / "logs" / "summary.error.json").read_text(encoding="utf-8"))
    assert record["status"] == done.returncode == 5
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_the_traceback_is_for_those_who_ask(tmp_path: Path) -> None:
    done = minivess("--debug", "summary", "-e", "demo", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_query_prints_a_table_or_the_views(tmp_path: Path) -> None:
    import polars as pl

    from minivess import output, paths

    root = tmp_path / "results" / "demo"
    table = pl.DataFrame({"case": ["a"], "threshold": [0.5], "dice": [0.25]})
    output.write_parquet(table, paths.baseline(root))
    done = minivess("query", "SELECT avg(dice) AS mean FROM baseline", cwd=tmp_path)
    assert done.returncode == 0
    assert "0.25" in done.stdout
    wrong = minivess("query", "SELECT * FROM bseline", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "baseline" in wrong.stderr


def test_errors_lists_codes_with_their_status() -> None:
    lines = minivess("errors").stdout.splitlines()
    assert any(line.split()[:2] == ["MV-DATA-009", "3"] for line in lines)
