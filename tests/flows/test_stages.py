"""Flows without a server: contract through MLflow, retries, one at a time, resumed after kills."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from flows_project import EXPERIMENT, Project, all_gone, make_project, sleeper_of

from minivess import output, paths
from minivess.config.load import resolve
from minivess.config.settings import load_settings
from minivess.errors import CODES, RETRYABLE, MinivessError
from minivess.flows import snakemake, stages
from minivess.flows.run import run_flow
from minivess.flows.snakemake import Outcome, is_retryable
from minivess.flows.stages import STAGES, FlowFailed, run_stage, stage_digest
from minivess.tracking.flow_runs import begin_flow, check_flow, check_runs, end_flow
from minivess.tracking.mlflow_log import close_run, open_run
from minivess.types import RunKey

URI = "sqlite:///mlflow.db"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose empty MLflow database is made once: that takes seconds."""
    return make_project(tmp_path_factory.mktemp("flows"))


@pytest.fixture
def asked(database: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, ...]]]:
    """In that project; what is asked of Snakemake, which succeeds at once."""
    monkeypatch.chdir(database.folder)
    monkeypatch.setattr(stages, "WAIT_S", 0.05)
    targets: list[tuple[str, ...]] = []

    def attempt(request: snakemake.Request, **_: Any) -> Outcome:
        targets.append(request.targets)
        return Outcome(0)

    monkeypatch.setattr(snakemake, "attempt", attempt)
    return targets


def write_experiment(name: str, **changes: Any) -> str:
    """A new experiment in the working folder, so that MLflow knows nothing of it."""
    Path(f"{name}.yaml").write_text(yaml.safe_dump({**EXPERIMENT, **changes}), encoding="utf-8")
    return f"{name}.yaml"


def refused(flow: str, experiment: str) -> str:
    with pytest.raises(MinivessError) as caught:
        run_stage(flow, experiment, [], "1")
    assert caught.value.code == "MV-FLOW-001"
    return str(caught.value)


def test_all_flows_in_their_order(
    asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "find_quarto", lambda: "quarto")
    assert run_flow("all", write_experiment("ordered"), [], "1") == 0
    assert asked == [
        ("prepared_cases",),
        ("trained_runs",),
        ("all",),
        ("deploy",),
        ("report", "paper", "dashboard"),
    ]


def test_without_quarto_the_paper_is_left_out_by_name(
    asked: list[tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("minivess.logs.LOGGER.propagate", True)
    caplog.set_level("INFO", "minivess")
    assert run_flow("all", write_experiment("plain"), [], "1") == 0
    assert asked[-1] == ("report",)
    assert "paper and dashboard are left out" in caplog.text
    assert "MV-SYSTEM-004" in caplog.text


def test_a_flow_refuses_to_run_before_the_one_it_needs(asked: list[tuple[str, ...]]) -> None:
    experiment = write_experiment("early")
    for flow in ("train", "analyze", "deploy", "dashboard"):
        text = refused(flow, experiment)
        assert f"the flow {STAGES[flow].needs} of the experiment early" in text
        assert "it has never run" in text
        assert f"minivess flow run {STAGES[flow].needs} --experiment early" in text
    assert asked == []


def test_a_flow_refuses_what_another_configuration_has_made(asked: list[tuple[str, ...]]) -> None:
    experiment = write_experiment("changed")
    run_stage("data", experiment, [], "1")
    write_experiment("changed", phantom={"n_cases": 5})
    assert "another configuration only" in refused("train", experiment)
    write_experiment("changed", training={"epochs": 3})
    run_stage("train", experiment, [], "1")
    assert len(asked) == 2


def test_what_is_advised_has_the_arguments_that_were_given(asked: list[tuple[str, ...]]) -> None:
    experiment = write_experiment("advised")
    with pytest.raises(MinivessError) as caught:
        run_stage("train", experiment, ["epochs=3", "patch_size=[16, 16, 8]"], "1")
    assert caught.value.fix == (
        "minivess flow run data --experiment advised.yaml epochs=3 'patch_size=[16, 16, 8]'"
    )
    words = shlex.split(caught.value.fix)[6:]
    run_stage("data", experiment, words, "1")
    run_stage("train", experiment, words, "1")


def test_a_config_file_that_an_earlier_plan_has_left_changes_nothing(
    asked: list[tuple[str, ...]],
) -> None:
    experiment = write_experiment("planned")
    run_stage("data", experiment, [], "1")
    for name in ("train-left", "phantom-left"):
        output.write_text("a: 1\n", paths.step_config(Path("results/planned"), name))
    run_stage("train", experiment, [], "1")
    run_stage("analyze", experiment, [], "1")


def test_a_failed_flow_is_refused_by_name(
    asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = write_experiment("failed")
    failure = {"code": "MV-DATA-017", "status": 3, "text": "MV-DATA-017: bad volumes"}
    monkeypatch.setattr(snakemake, "attempt", lambda *_, **__: Outcome(3, (failure,), 1))
    with pytest.raises(FlowFailed, match="bad volumes") as caught:
        run_stage("data", experiment, [], "1")
    assert caught.value.status == 3
    assert run_flow("data", experiment, [], "1") == 3
    assert "its last run has the status FAILED" in refused("train", experiment)


def test_a_killed_flow_has_not_finished_and_is_told_so(asked: list[tuple[str, ...]]) -> None:
    begin_flow(URI, "killed", "data", "digest")
    with pytest.raises(MinivessError, match="status RUNNING"):
        check_flow(URI, "killed", "data", "digest", "run it")
    second = begin_flow(URI, "killed", "data", "digest")
    end_flow(second, "FINISHED", {})
    check_flow(URI, "killed", "data", "digest", "run it")


def test_training_runs_that_failed_are_named(asked: list[tuple[str, ...]]) -> None:
    good, bad, missing = (RunKey("net", "dice_ce", 0, fold) for fold in range(3))
    for key, status in ((good, "FINISHED"), (bad, "FAILED")):
        close_run(open_run(URI, "named", key, "digest", {}, {}), status)  # type: ignore[arg-type]
    check_runs(URI, "named", [good, missing], "train them")
    with pytest.raises(MinivessError) as caught:
        check_runs(URI, "named", [good, bad, missing], "train them")
    assert caught.value.code == "MV-FLOW-001"
    assert caught.value.found == f"{bad} (FAILED)"
    assert caught.value.fix == "train them"


def test_the_digest_of_a_flow_has_the_config_of_its_steps_and_of_those_before(
    asked: list[tuple[str, ...]],
) -> None:
    digests = {}
    for name, changes in {
        "same": {},
        "figures": {"figures": {"forest": {"width_mm": 111}}},
        "training": {"training": {"epochs": 3}},
        "losses": {"losses": ["dice"]},
        "seeds": {"seeds": [7]},
        "phantom": {"phantom": {"n_cases": 5}},
    }.items():
        experiment = resolve(write_experiment("digested", **changes))
        digests[name] = {flow: stage_digest(stage, experiment) for flow, stage in STAGES.items()}
    changed = {
        name: {flow for flow in STAGES if digests[name][flow] != digests["same"][flow]}
        for name in digests
    }
    assert changed["figures"] == {"analyze", "deploy", "dashboard"}
    for name in ("training", "losses", "seeds"):
        assert changed[name] == {"train", "analyze", "deploy", "dashboard"}, name
    assert changed["phantom"] == set(STAGES)


def test_a_flow_has_targets_of_its_own(asked: list[tuple[str, ...]]) -> None:
    with pytest.raises(MinivessError) as caught:
        run_stage("data", "small.yaml", ["paper"], "1")
    assert caught.value.code == "MV-CONFIG-004"
    with pytest.raises(MinivessError, match="did you mean train"):
        run_flow("tran", "small.yaml", [], "1")


def test_a_failed_dashboard_fails_nothing(
    asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def attempt(request: snakemake.Request, **_: Any) -> Outcome:
        return Outcome(7, (), 0) if "report" in request.targets else Outcome(0)

    monkeypatch.setattr(snakemake, "attempt", attempt)
    experiment = write_experiment("best_effort")
    assert run_flow("all", experiment, [], "1") == 0
    assert run_flow("dashboard", experiment, [], "1") == 7


@pytest.mark.parametrize("code", sorted(CODES))
def test_only_errors_that_may_be_gone_later_are_tried_again(code: str) -> None:
    family = code.split("-")[1]
    failure = {"code": code, "status": 1, "text": ""}
    assert is_retryable(Outcome(1, (failure,), 1)) == (code in RETRYABLE)
    if family in ("CONFIG", "DATA", "FOLDS", "PATCH", "LOCK", "INTERNAL"):
        assert code not in RETRYABLE


def test_killed_jobs_are_tried_again_and_a_snakefile_that_fails_is_not() -> None:
    assert is_retryable(Outcome(1, (), 1)), "a job that left no error was killed"
    assert not is_retryable(Outcome(1, (), 0)), "no job ran"
    assert not is_retryable(Outcome(0, (), 0))
    both = ({"code": "MV-TRACK-001"}, {"code": "MV-DATA-001"})
    assert not is_retryable(Outcome(6, both, 2))


def test_retries_end(asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def attempt(request: snakemake.Request, **_: Any) -> Outcome:
        tries.append(request)
        return Outcome(6, ({"code": "MV-TRACK-001", "text": "locked"},), 1)

    monkeypatch.setattr(snakemake, "attempt", attempt)
    monkeypatch.setenv("MINIVESS_DEPLOY_FLOW_RETRIES", "3")
    monkeypatch.setenv("MINIVESS_DEPLOY_FLOW_RETRY_DELAY_S", "0")
    assert run_flow("data", write_experiment("stubborn"), [], "1") == 6
    assert len(tries) == 4
    assert load_settings("ci").flow_retry_delay_s == 0


def test_flows_on_one_results_folder_wait_for_each_other(
    asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, most = [], []

    def attempt(request: snakemake.Request, **_: Any) -> Outcome:
        busy.append(request)
        most.append(len(busy))
        time.sleep(0.3)
        busy.remove(request)
        return Outcome(0)

    monkeypatch.setattr(snakemake, "attempt", attempt)
    experiment = write_experiment("shared")
    run_stage("data", experiment, [], "1")
    # Whoever waits never holds the lock of the experiment itself, not even to look at it.
    monkeypatch.setattr(stages, "WAIT_S", 0.01)
    threads = [
        threading.Thread(target=run_stage, args=("data", experiment, [], "1")) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 7


def test_a_real_run_is_tried_again_and_resumed_after_a_kill(project: Project) -> None:
    """A system error is tried again; after kill -9 nothing of the flow is left, and it goes on."""
    project.job_fails_once("MV-TRACK-001", 6)
    status, text = project.run_flow(MINIVESS_DEPLOY_FLOW_RETRY_DELAY_S="0")
    assert status == 0, text
    assert "MV-TRACK-001: as the test wants it" in text
    assert "trying again in 0 s, 2 more times at most" in text
    project.made.unlink()
    project.job_fails_once("MV-DATA-017", 3)
    status, text = project.run_flow(MINIVESS_DEPLOY_FLOW_RETRY_DELAY_S="0")
    assert status == 3
    assert "trying again" not in text
    project.job_takes(300)
    process = project.start("flow", "run", "data", "--experiment", "small.yaml")
    tree = sleeper_of(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert all_gone(tree)
    assert not project.made.exists()
    project.job_takes(0)
    status, text = project.run_flow()
    assert status == 0, text
    assert project.made.exists()


def test_an_experiment_and_a_flow_print_the_same(project: Project) -> None:
    def lines(text: str) -> list[str]:
        kept = ("Job ", "make", "Finished", "rule", "steps", "everything")
        return [line for line in text.splitlines() if line.strip().startswith(kept)]

    process = project.start("experiment", "small.yaml", "prepared_cases")
    expected, _ = process.communicate(timeout=120)
    project.made.unlink()
    _, text = project.run_flow()
    assert [line for line in lines(text) if not line.startswith("[")] == lines(expected)
    assert lines(text)
