"""The tiny experiment through SLURM: the same bytes, failures reported, nothing left behind.

`tests/cluster/run` starts a cluster of one node and runs this. Another cluster gets no job.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from workbench import PROJECT, Workbench

pytestmark = pytest.mark.dag

PLUGIN = "snakemake_executor_plugin_slurm"
# Without accounting; the node of the test may have no more than two cores; look often.
WITHOUT_ACCOUNTING = ["--slurm-no-account", "--slurm-status-command", "squeue", "--cores", "2"]
# Counts as a GPU's place in the queue; the prediction itself finds none and uses the CPU.
ON_A_GPU = ["--set-resources", "predict:gpu=1", "predict:gpu_turn=1"]
OFTEN = ["--slurm-init-seconds-before-status-checks", "5", "--seconds-between-status-checks", "5"]


def missing() -> str:
    """What SLURM lacks here, or nothing."""
    if shutil.which("sbatch") is None:
        return "no sbatch: SLURM is not installed (tests/cluster/run installs it)"
    if importlib.util.find_spec(PLUGIN) is None:
        return f"no {PLUGIN}: uv sync --extra cluster"
    command = ["scontrol", "show", "config"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return "the SLURM controller does not answer (tests/cluster/slurm start)"
    if asked.returncode != 0:
        return f"no SLURM controller (tests/cluster/slurm start): {asked.stderr.strip()}"
    if not re.search(r"^ClusterName\s*= minivess$", asked.stdout, re.MULTILINE):
        return "another SLURM than that of tests/cluster/slurm"
    return ""


@pytest.fixture(scope="module", autouse=True)
def _slurm() -> None:
    reason = missing()
    if reason and os.environ.get("MINIVESS_SLURM") == "required":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    workbench = Workbench(tmp_path)
    workbench.write_config()
    return workbench


def through_slurm(bench: Workbench, *options: str, config: tuple[str, ...] = ()) -> list[str]:
    command = bench.command(config=config)[:-1]
    profile = command.index("--workflow-profile")
    cores = command.index("--cores")
    del command[cores : cores + 2]
    command[profile + 1] = str(PROJECT / "profiles" / "slurm")
    return [*command, *WITHOUT_ACCOUNTING, *OFTEN, *options]


def queued(user_jobs: str = "minivess_") -> list[str]:
    """Jobs of this profile that SLURM has not ended."""
    command = ["squeue", "--me", "--noheader", "--format=%i %j"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[0] for line in lines if line.split()[1].startswith(user_jobs)]


def details(job: str) -> str:
    """What the controller knows of a job, for a few minutes after its end too."""
    command = ["scontrol", "show", "job", "--oneliner", job]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def sums(bench: Workbench) -> str:
    return (bench.root / "SHA256SUMS").read_text(encoding="utf-8")


def test_the_same_bytes_as_on_one_machine(tmp_path: Path) -> None:
    benches, took = {}, {}
    for name in ("local", "slurm"):
        (tmp_path / name).mkdir()
        bench = benches[name] = Workbench(tmp_path / name)
        bench.write_config()
        began = time.monotonic()
        done = bench.call(bench.command() if name == "local" else through_slurm(bench, *ON_A_GPU))
        took[name] = time.monotonic() - began
        text = done.stdout + done.stderr
        assert done.returncode == 0, text[-9000:]
        jobs = set(re.findall(r"submitted with SLURM jobid (\d+)", text))
        print(f"\n{name}: {took[name]:.0f} s, {len(jobs)} SLURM jobs")
    local, slurm = (sums(benches[name]).splitlines() for name in ("local", "slurm"))
    different = [(one, other) for one, other in zip(local, slurm, strict=True) if one != other]
    print(f"{len(local)} files, {len(different)} differ")
    for line in slurm:
        if re.search(r"weights|summary\.json", line):
            print(f"  {line}")
    # Cases share submissions, and predictions the GPU of theirs, which has 1 and not 8.
    assert 0 < len(jobs) < 20
    gpus = [re.findall(r"TresPerJob=gres.gpu:(\d+)", details(job)) for job in sorted(jobs)]
    print(f"GPUs of each: {gpus}")
    assert ["1"] in gpus
    assert all(number in ([], ["1"]) for number in gpus)
    assert different == []
    assert benches["local"].digests() == benches["slurm"].digests()
    # What has been made through SLURM is up to date for this machine, and the other way round.
    assert benches["slurm"].planned() == set()
    again = benches["local"].call(through_slurm(benches["local"]))
    assert "Nothing to be done" in again.stdout + again.stderr


def test_other_resources_make_nothing_again(bench: Workbench) -> None:
    target = "results/tiny/folds.json"
    bench.complete(target)
    options = ["--dry-run", "--set-resources", "manifest:mem_mb=9999", "phantom:runtime=99"]
    done = bench.call(through_slurm(bench, *options, "--", target))
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr


def test_a_failing_job_is_reported_with_its_error(bench: Workbench) -> None:
    bench.write_config(phantom={"n_cases": 4, "phantom_shape": [8, 8, 8]})
    options = ["--retries", "0", "--", "results/tiny/data/accepted.json"]
    done = bench.call(through_slurm(bench, *options))
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "MV-PATCH-001" in text, text[-6000:]
    assert queued() == []


def test_a_training_that_fails_on_the_node_is_reported_with_its_error(bench: Workbench) -> None:
    bench.write_config(compute={"device": "cuda"}, losses=["dice_ce"])
    options = ["--retries", "0", "--", "results"]
    done = bench.call(through_slurm(bench, *options))
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "MV-SYSTEM-003" in text, text[-6000:]
    assert "SLURM-job" in text
    assert queued() == []


def test_an_interrupt_cancels_what_was_submitted(bench: Workbench) -> None:
    bench.write_config(phantom={"n_cases": 400, "phantom_shape": [96, 96, 24]})
    process = subprocess.Popen(
        through_slurm(bench),
        cwd=bench.folder,
        env=bench.env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: bool(queued()), 120)
    # The lock belongs to the process that submits; its jobs run all the same.
    second = bench.run()
    assert "MV-STATE-004" in second.stdout + second.stderr
    process.send_signal(signal.SIGINT)
    wait_until(lambda: not queued(), 60)
    assert process.wait(timeout=240) != 0
    assert queued() == []


def wait_until(happened: object, timeout_s: float) -> None:
    assert callable(happened)
    end = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(0.5)
