"""What is asked of Snakemake, and that nothing of it is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_config
from workbench import PROJECT

from minivess import provenance
from minivess.errors import MinivessError
from minivess.flows.snakemake import (
    TARGETS,
    Request,
    request,
    run,
    source_overrides,
    stop_group,
)

EXPERIMENT = {"losses": ["dice_ce"], "phantom": {"n_cases": 4}, "folds": {"n_folds": 2}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Snakefile").write_text("", encoding="utf-8")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(EXPERIMENT), encoding="utf-8")
    return tmp_path


def test_overrides_targets_and_options_are_told_apart(folder: Path) -> None:
    arguments = ["epochs=3", "patches.batch_size=4", "patches.patch_size=[16, 16, 8]", "results"]
    asked = request("small.yaml", arguments, "2", dry_run=True)
    assert asked.overrides == {
        "epochs": 3,
        "patches": {"batch_size": 4, "patch_size": [16, 16, 8]},
    }
    assert asked.targets == ("results",)
    assert asked.root == Path("results/small")
    command = asked.command()
    assert command[1:5] == ["-m", "snakemake", "--cores", "2"]
    assert "--dry-run" in command
    assert command[-2:] == ["--", "results"]
    assert "patches={batch_size: 4, patch_size: [16, 16, 8]}" in command


def test_snakemake_reads_every_override_as_it_was_meant(folder: Path) -> None:
    from minivess.config.load import resolve

    arguments = ["epochs=3", "learning_rate=1e-3", "patch_size=[16, 16, 8]", "window_size=null"]
    asked = request("small.yaml", arguments, "1", dry_run=False)
    pairs = asked.command()[asked.command().index("--config") + 1 : -1]
    code = "import json, sys; from snakemake.cli import parse_config; "
    code += "print(json.dumps(parse_config(sys.argv[1:])))"
    done = subprocess.run(
        [sys.executable, "-c", code, *pairs], capture_output=True, text=True, check=True
    )
    config = json.loads(done.stdout)
    experiment = resolve(config.pop("experiment"), config)
    assert experiment.training.epochs == 3
    assert experiment.training.learning_rate == 1e-3
    assert experiment.patches.patch_size == (16, 16, 8)
    assert experiment.inference.window_size is None


@pytest.mark.parametrize(
    "name", ["0815", "2024_05_17", "1e3", "inf", "True", "true", "null", "a: b", "a1", "2024-05-17"]
)
def test_snakemake_reads_names_as_names(name: str) -> None:
    command = Request(name, "x", {"name": name}, (), "1", False).command()
    found = parse_config(command[command.index("--config") + 1 : -1])
    assert found == {"experiment": name, "name": name}


@pytest.mark.parametrize("argument", ["patch_size=[96,96,8", "augment={a: 1", "name='x"])
def test_a_value_that_is_no_yaml_is_named(folder: Path, argument: str) -> None:
    with pytest.raises(MinivessError) as caught:
        request("small.yaml", ["epochs=3", argument], "2", dry_run=True)
    assert caught.value.code == "MV-CONFIG-005"
    assert caught.value.where == argument


def test_a_list_of_cases_among_results_is_data(folder: Path) -> None:
    (folder / "results" / "demo").mkdir(parents=True)
    (folder / "results" / "demo" / "cases.csv").write_text("case\n", encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        request("small.yaml", ["results/demo/cases.csv"], "2", dry_run=False)
    assert caught.value.code == "MV-DATA-013", "it has no columns, and is read"
    assert caught.value.where == "results/demo/cases.csv"


def test_a_folder_with_the_name_of_a_target_is_no_data(folder: Path) -> None:
    for name in TARGETS:
        (folder / name).mkdir(exist_ok=True)
        asked = request("small.yaml", [name], "2", dry_run=True)
        assert asked.targets == (name,)
        assert asked.overrides == {}


def test_data_on_the_command_line(folder: Path) -> None:
    cases = folder / "cases.csv"
    cases.write_text("case,image,label\na,a.nii.gz,b.nii.gz\n", encoding="utf-8")
    asked = request("small.yaml", ["cases.csv"], "1", dry_run=True)
    assert asked.overrides == {"data": {"source": "csv", "path": "cases.csv"}}


def test_kinds_of_data_folders(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    assert source_overrides(tmp_path)["data"]["source"] == "minivess"
    (tmp_path / "dataset.json").write_text("{}", encoding="utf-8")
    assert source_overrides(tmp_path)["data"]["source"] == "nnunet"
    assert source_overrides(Path("mine.zip"))["data"]["source"] == "minivess"


def test_data_that_are_not_there(folder: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        request("small.yaml", ["cases.csv"], "1", dry_run=False)
    assert caught.value.code == "MV-DATA-001"


def test_outside_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Snakefile of the project that the package lies in is used."""
    monkeypatch.chdir(tmp_path)
    command = request("demo", [], "1", dry_run=True).command()
    given = Path(command[command.index("--snakefile") + 1])
    assert given == PROJECT / "Snakefile"


def test_without_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "site-packages" / "minivess")
    with pytest.raises(MinivessError) as caught:
        request("demo", [], "1", dry_run=False)
    assert caught.value.code == "MV-SYSTEM-004"


class Failing(Request):
    """Asks for a process that fails as a step does."""

    def record(self) -> str:
        text = "MV-DATA-017: what went wrong"
        return json.dumps({"code": "MV-DATA-017", "status": 3, "text": text})

    def command(self) -> list[str]:
        code = (
            "import pathlib, sys\n"
            f"path = pathlib.Path({str(self.root / 'logs' / 'accept.error.json')!r})\n"
            "path.parent.mkdir(parents=True, exist_ok=True)\n"
            f"path.write_text({self.record()!r})\n"
            "sys.exit(1)\n"
        )
        return [sys.executable, "-c", code]


def test_the_status_is_that_of_the_failed_step(folder: Path) -> None:
    stale = folder / "results" / "small" / "logs" / "old.error.json"
    stale.parent.mkdir(parents=True)
    stale.write_text('{"code": "MV-TRACK-001", "status": 6, "text": ""}', encoding="utf-8")
    assert run(Failing("small.yaml", "small", {}, (), "1", dry_run=False)) == 3
    assert not stale.exists()


class FailingOnAFullDisk(Failing):
    """Asks for a process whose error does not fit on the disk."""

    def record(self) -> str:
        return super().record()[:10]


def test_an_error_that_could_not_be_written_is_a_full_disk(folder: Path) -> None:
    assert run(FailingOnAFullDisk("small.yaml", "small", {}, (), "1", dry_run=False)) == 4


def test_a_group_ends_with_its_children() -> None:
    code = "import subprocess, sys, time\n"
    code += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    code += "print(child.pid, flush=True); time.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    stop_group(process, grace_s=10)
    assert process.poll() == -signal.SIGTERM
    assert ended(child)


def test_a_group_that_does_not_listen_is_killed() -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += "print('ready', flush=True); time.sleep(60)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    stop_group(process, grace_s=0.2)
    assert process.poll() == -signal.SIGKILL


def ended(pid: int, timeout_s: float = 10.0) -> bool:
    """Whether a process is gone, or only waits for its parent to notice."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_a_child_that_outlives_its_leader_may_write_what_it_has(tmp_path: Path) -> None:
    written = tmp_path / "written"
    child = (
        "import pathlib, signal, sys, time\n"
        "def end(number, frame):\n"
        "    time.sleep(1)\n"
        f"    pathlib.Path({str(written)!r}).write_text('KILLED')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    leader = "import subprocess, sys, time\n"
    leader += f"subprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", leader], start_new_session=True)
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    stop_group(process, grace_s=20)
    assert written.read_text(encoding="utf-8") == "KILLED"
