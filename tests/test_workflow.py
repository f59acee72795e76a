"""What the Snakefile asks of Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from minivess import paths, workflow
from minivess.config.load import resolve_mapping
from minivess.errors import MinivessError

EXPERIMENT = {"losses": ["dice_ce", "cbdice"], "seeds": [0, 1], "phantom": {"n_cases": 4}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(EXPERIMENT), encoding="utf-8")
    yield tmp_path
    workflow.release_locks()


def plan(**overrides: object) -> workflow.Plan:
    return workflow.plan_experiment({"experiment": "small.yaml", **overrides}, Path(), True)


def test_runs_and_files_of_a_plan(folder: Path) -> None:
    made = plan(n_folds=2)
    assert [str(run) for run in made.runs()][:2] == [
        "dynunet/dice_ce/seed0/fold0",
        "dynunet/dice_ce/seed0/fold1",
    ]
    assert len(made.runs()) == 2 * 2 * 2
    assert len(made.cases) == 4
    assert len(made.made_files) == 8
    assert made.source_files == ()


def test_a_folds_file_brings_its_number_of_folds(folder: Path) -> None:
    text = '{"folds": [{"train": ["a"], "validation": ["b"]}]}'
    (folder / "folds.json").write_text(text, encoding="utf-8")
    assert plan(folds_file="folds.json").n_folds == 1


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"losses": ["dise_ce"]}, "dice_ce"),
        ({"models": {"a": {"architecture": "dynunett"}}}, "dynunet"),
    ],
)
def test_unknown_names_stop_before_anything_runs(values: dict[str, object], name: str) -> None:
    with pytest.raises(MinivessError) as caught:
        workflow.check_uses(resolve_mapping({"name": "x", **values}, {}, "test"))
    assert caught.value.code == "MV-CONFIG-003"
    assert name in caught.value.fix


def test_a_dry_run_is_refused_while_another_process_runs(folder: Path) -> None:
    code = "import sys, pathlib; from minivess.workflow import hold_lock; "
    code += "hold_lock(pathlib.Path('results/small')); print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    for dry_run in (True, False):
        with pytest.raises(MinivessError) as caught:
            workflow.plan_experiment({"experiment": "small.yaml"}, Path(), dry_run)
        assert caught.value.code == "MV-STATE-004"
    # The config that the other one's jobs read was not touched.
    assert not (folder / "results" / "small" / "config").exists()
    holder.kill()
    holder.wait()


def test_a_dry_run_puts_back_the_config_that_results_were_made_with(folder: Path) -> None:
    made = workflow.plan_experiment({"experiment": "small.yaml"}, Path())
    config = paths.step_config(made.root, "experiment")
    os.utime(config, ns=(1, 10**18))
    before = {file: file.read_bytes() for file in config.parent.iterdir()}
    workflow.release_locks()
    code = "import pathlib; from minivess import workflow; "
    code += "asked = {'experiment': 'small.yaml', 'epochs': 77}; "
    code += "plan = workflow.plan_experiment(asked, pathlib.Path(), True); "
    code += "workflow.lend_step_files(plan); "
    code += f"print(pathlib.Path({str(config)!r}).read_text())"
    lent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "epochs: 77" in lent.stdout
    assert {file: file.read_bytes() for file in config.parent.iterdir()} == before
    assert config.stat().st_mtime_ns == 10**18


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_dry_run_that_is_stopped_puts_it_back_too(folder: Path, number: signal.Signals) -> None:
    made = workflow.plan_experiment({"experiment": "small.yaml"}, Path())
    config = paths.step_config(made.root, "experiment")
    before = config.read_bytes()
    workflow.release_locks()
    code = "import pathlib, time; from minivess import workflow; "
    code += "asked = {'experiment': 'small.yaml', 'epochs': 77}; "
    code += "workflow.lend_step_files(workflow.plan_experiment(asked, pathlib.Path(), True)); "
    code += "print('lent', flush=True); time.sleep(60)"
    lent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert lent.stdout is not None
    assert lent.stdout.readline() == b"lent\n"
    assert config.read_bytes() != before
    lent.send_signal(number)
    lent.wait(30)
    assert config.read_bytes() == before


def test_the_first_dry_run_leaves_no_config(folder: Path) -> None:
    code = "import pathlib; from minivess import workflow; "
    code += "plan = workflow.plan_experiment({'experiment': 'small.yaml'}, pathlib.Path(), True); "
    code += "workflow.lend_step_files(plan)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not list((folder / "results" / "small" / "config").iterdir())


def test_a_name_that_snakemake_takes_for_a_number_is_refused(folder: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        workflow.plan_experiment({"experiment": 815}, Path(), True)
    assert caught.value.code == "MV-CONFIG-002"
    assert "NAME.yaml" in caught.value.fix


def test_a_missing_store_makes_the_mark_untrue(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder / "results" / "small"
    mark = paths.tracked(root)
    mark.parent.mkdir(parents=True)
    mark.write_text("{}", encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    (folder / "mlflow.db").write_bytes(b"")
    workflow.forget_missing_store(root)
    assert mark.exists()
    (folder / "mlflow.db").unlink()
    workflow.forget_missing_store(root)
    assert not mark.exists()


def test_gpus_are_counted_and_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert workflow.gpu_count(tmp_path / "absent") == 0
    (tmp_path / "0000:01:00.0").mkdir()
    assert workflow.gpu_count(tmp_path) == 1
    on_cpu = resolve_mapping({"name": "x"}, {"device": "cpu", "threads": 3}, "test")
    assert workflow.job_threads(on_cpu, cores=8) == 3
    monkeypatch.setattr(workflow, "gpu_count", lambda: 1)
    assert workflow.job_threads(on_cpu, cores=8) == 3
    assert workflow.job_threads(resolve_mapping({"name": "x"}, {}, "test"), cores=8) == 8


def test_the_lock_is_free_again_when_its_process_is_gone(tmp_path: Path) -> None:
    code = "import sys, pathlib; from minivess.workflow import hold_lock; "
    code += (
        f"hold_lock(pathlib.Path({str(tmp_path)!r})); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(MinivessError) as caught:
        workflow.hold_lock(tmp_path)
    workflow.release_locks()
    assert caught.value.code == "MV-STATE-004"
    assert str(holder.pid) in caught.value.found
    holder.kill()
    holder.wait()
    workflow.hold_lock(tmp_path)
    workflow.release_locks()


def test_a_sigterm_waits_for_no_lock_of_the_code_it_interrupts() -> None:
    """As in Snakemake, whose handler takes a lock that its scheduler holds at times."""
    code = """if True:
        import signal, threading, time
        from minivess.workflow import answer_sigterm
        lock, answered = threading.Lock(), threading.Event()
        def handler(number, frame):
            with lock:
                answered.set()
        signal.signal(signal.SIGTERM, handler)
        answer_sigterm()
        with lock:
            signal.raise_signal(signal.SIGTERM)
            print("left the interrupted code", flush=True)
        print("answered", answered.wait(10))
    """
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.split("\n")[:2] == ["left the interrupted code", "answered True"]
