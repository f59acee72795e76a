"""The parts of `tests/container/run` that need no engine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from container import bases, check, image
from container.engine import Engine, docker, podman

from minivess import output
from minivess.reproducibility.digests import as_text


def written(folder: Path, files: dict[str, str]) -> Path:
    """A results folder with some files and their digests."""
    import hashlib

    root = folder / "results" / "tiny"
    for name, text in files.items():
        output.write_text(text, root / name)
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    output.write_text(as_text(digests), root / "SHA256SUMS")
    return folder


def test_equal_results_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"data/a.json": "1\n", "tables/b.json": "2\n"}
    pair = written(tmp_path / "x", files), written(tmp_path / "y", files)
    assert check.compare(*pair, "tiny", {"run here": 3.2}) == 0
    shown = capsys.readouterr().out
    assert "2 equal" in shown
    assert "run here: 3 s" in shown


def test_the_first_difference_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = written(tmp_path / "x", {"z.json": "1\n", "b.json": "2\n", "a.json": "3\n"})
    there = written(tmp_path / "y", {"z.json": "1\n", "b.json": "4\n", "a.json": "5\n"})
    assert check.compare(here, there, "tiny", {}) != 0
    shown = capsys.readouterr().out
    assert "b.json, the first file of the DAG that differs" in shown
    assert "the container gave other bytes" in shown


def test_a_file_that_is_not_what_its_digest_says_is_no_proof(tmp_path: Path) -> None:
    pair = written(tmp_path / "x", {"a.json": "1\n"}), written(tmp_path / "y", {"a.json": "1\n"})
    (pair[1] / "results" / "tiny" / "a.json").write_text("2\n", encoding="utf-8")
    assert check.compare(*pair, "tiny", {}) != 0


def test_results_without_digests_are_an_error(tmp_path: Path) -> None:
    here = written(tmp_path / "x", {"a.json": "1\n"})
    assert check.compare(here, tmp_path / "y", "tiny", {}) != 0


def test_the_command_line() -> None:
    parser = check.arguments()
    assert parser.parse_args([]).experiment == "tiny"
    asked = parser.parse_args(["demo", "--cores", "1", "--real-bases"])
    assert (asked.experiment, asked.cores, asked.real_bases) == ("demo", 1, True)
    assert parser.parse_args(["--storage", "here"]).storage == Path.cwd() / "here"


def test_docker_is_used_for_real_bases_where_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = check.arguments().parse_args(["--real-bases", "--storage", str(tmp_path)])
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert check.prepared_engine(asked) == docker()
    # Where it does not answer, podman has to do it, which needs root.
    program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert check.prepared_engine(asked) is None


def test_podman_keeps_everything_in_one_folder(tmp_path: Path) -> None:
    engine = podman(tmp_path / "storage", pull=False)
    command = list(engine.command)
    for option in ("--root", "--runroot"):
        assert Path(command[command.index(option) + 1]).parent == tmp_path / "storage"
    assert Path(engine.environment["TMPDIR"]).is_relative_to(tmp_path / "storage")
    assert "--pull=never" in engine.for_build
    assert "--pull=missing" in podman(tmp_path, pull=True).for_build


def recorder(folder: Path) -> Engine:
    """An engine that only says what it was asked for."""
    program = folder / "engine"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return Engine((str(program),), ("--layers",), ("--ulimit", "x"), {})


def test_options_come_before_the_image_and_the_command_after_it(tmp_path: Path) -> None:
    said = recorder(tmp_path).run("img", ["snakemake", "-n"], "--network", "none").splitlines()
    assert said == ["run", "--rm", "--ulimit", "x", "--network", "none", "img", "snakemake", "-n"]


def test_a_command_that_fails_is_an_error() -> None:
    engine = Engine((sys.executable, "-c", "import sys; sys.exit(3)"), (), (), {})
    assert not engine.has("img")
    with pytest.raises(subprocess.CalledProcessError):
        engine.run("img", ["true"])


def test_only_missing_stand_ins_are_made(tmp_path: Path) -> None:
    # `true` has every image, so that none is made.
    everything = Engine((shutil.which("true") or "true",), (), (), {})
    bases.make_stand_ins(everything, check.base_images(), tmp_path / "context")
    assert not (tmp_path / "context").exists()
    nothing = Engine((shutil.which("false") or "false",), (), (), {})
    with pytest.raises(ValueError, match="no stand-in for"):
        bases.make_stand_ins(nothing, ["docker.io/library/node:20"], tmp_path / "context")


def test_every_base_of_the_dockerfile_has_a_stand_in() -> None:
    names = {image.rpartition(":")[0].rpartition("/")[2] for image in check.base_images()}
    assert names == {"python", "uv", "quarto"}
    assert check.python_base().startswith("docker.io/library/python:3.")


def test_the_stand_in_of_python_is_the_python_of_the_environment(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"python:2\.7-slim"):
        bases._python(tmp_path, "2.7-slim")


def test_files_that_the_base_has_are_not_our_fault() -> None:
    assert image.added("/var/mail\n/opt/x\n/opt/a", "/var/mail\n/tmp") == ["/opt/a", "/opt/x"]
