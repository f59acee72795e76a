"""Flows in a real Prefect server on loopback: shown, cancelled, scheduled, resumed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from flows_project import Project, all_gone, free_port, make_project, sleeper_of, wait_until

from minivess.errors import MinivessError
from minivess.flows import server
from minivess.flows.serve import Schedule, check_schedule, files_of, start_run, watch_folder

BROWSER = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)


@dataclass(frozen=True)
class Prefect:
    """A project with a Prefect server of its own."""

    project: Project
    api: str

    def ask(self, path: str, **query: Any) -> Any:
        answer = httpx.post(f"{self.api}/{path}", json=query, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def flow_runs(self, name: str) -> list[dict[str, Any]]:
        """Runs of a flow, newest first."""
        query = {"flows": {"name": {"any_": [name]}}, "sort": "START_TIME_DESC"}
        return list(self.ask("flow_runs/filter", **query))

    def newest(self, name: str) -> dict[str, Any]:
        return wait_until(lambda: self.flow_runs(name), f"run of {name}")[0]

    def state_of(self, run: str) -> str:
        answer = httpx.get(f"{self.api}/flow_runs/{run}", timeout=30)
        return str(answer.json()["state"]["type"])

    def task_runs(self, run: str) -> list[dict[str, Any]]:
        return list(self.ask("task_runs/filter", flow_runs={"id": {"any_": [run]}}))

    def logs(self) -> list[str]:
        return [line["message"] for line in self.ask("logs/filter", limit=200)]

    def cancel(self, run: str) -> None:
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self.ask(f"flow_runs/{run}/set_state", state=state)

    def deployment(self, name: str) -> dict[str, Any] | None:
        answer = httpx.get(f"{self.api}/deployments/name/{name}", timeout=30)
        return dict(answer.json()) if answer.status_code == 200 else None


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    folder = tmp_path_factory.mktemp("prefect")
    home = folder / server.HOME
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        with server.running_server(free_port(), home) as api:
            yield Prefect(make_project(folder), api)


def test_a_flow_is_shown_with_its_jobs_their_logs_and_progress(served: Prefect) -> None:
    status, text = served.project.run_flow()
    assert status == 0, text
    assert f"Prefect shows this run: {served.api.removesuffix('/api')}" in text
    run = served.newest("data")
    assert run["state"]["type"] == "COMPLETED"
    [task] = wait_until(lambda: served.task_runs(run["id"]), "task run")
    assert re.match(r"make\b", task["name"])
    wait_until(lambda: served.task_runs(run["id"])[0]["state_type"] == "COMPLETED", "end of it")
    wait_until(lambda: "made with care" in served.logs(), "line of the job's log")
    [artifact] = served.ask("artifacts/latest/filter")
    assert (artifact["key"], artifact["data"]) == ("small-data-progress", 100)


def test_a_failed_job_fails_its_task_run_and_the_flow_with_the_error(served: Prefect) -> None:
    served.project.made.unlink()
    served.project.job_fails_once("MV-DATA-017", 3)
    status, text = served.project.run_flow()
    assert status == 3
    assert "Traceback" not in text
    run = served.newest("data")
    assert run["state"]["type"] == "FAILED"
    assert "MV-DATA-017: as the test wants it" in run["state"]["message"]
    wait_until(lambda: served.task_runs(run["id"])[0]["state_type"] == "FAILED", "failed task")


def test_a_flow_that_refuses_to_run_says_so_in_both_places(served: Prefect) -> None:
    status, text = served.project.run_flow("analyze")
    assert status == 12
    assert "MV-FLOW-001: the flow train of the experiment small has not finished" in text
    assert "MV-FLOW-001" in served.newest("analyze")["state"]["message"]


@pytest.mark.parametrize("flow", ["data", "all"])
def test_cancelling_ends_the_whole_tree(
    flow: str, served: Prefect, ended: list[subprocess.Popen[Any]]
) -> None:
    served.project.job_takes(300)
    process = served.project.start("flow", "run", flow, "--experiment", "small.yaml")
    ended.append(process)
    tree = sleeper_of(process)
    run = served.newest(flow)["id"]
    assert served.state_of(run) == "RUNNING"
    served.cancel(run)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 143, text
    assert "was cancelled" in text
    assert all_gone(tree)
    assert served.state_of(run) == "CANCELLED"


@pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with its driver is installed")
def test_the_pages_show_the_flow_in_a_browser(served: Prefect, tmp_path: Path) -> None:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for option in (*QUIET, f"--user-data-dir={tmp_path}"):
        options.add_argument(option)
    run = served.newest("data")
    with webdriver.Chrome(options=options, service=Service(DRIVER)) as browser:
        browser.get(f"{served.api.removesuffix('/api')}/runs/flow-run/{run['id']}")

        def shown() -> bool:
            return str(run["name"]) in browser.find_element(By.TAG_NAME, "body").text

        wait_until(shown, "name of the flow run on its page", 60)


def test_a_flow_that_the_server_does_not_know_is_not_started(served: Prefect) -> None:
    """Deleted on Prefect's page, or not there yet: what watches the folder goes on."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: served.api}):
        assert not start_run(Schedule("nobody"), ["new.tif"])


def test_a_schedule_arriving_files_pause_and_the_end(
    served: Prefect, ended: list[subprocess.Popen[Any]]
) -> None:
    project = served.project
    project.job_takes(0)
    arrivals = project.folder / "arrivals"
    arrivals.mkdir()
    options = ["--flow", "data", "--cron", "0 2 * * *", "--watch", "arrivals", "--settle", "0.5"]
    process = project.start("flow", "serve", "--experiment", "small.yaml", *options)
    ended.append(process)
    found = wait_until(lambda: served.deployment("data/small"), "deployment")
    assert [one["schedule"]["cron"] for one in found["schedules"]] == ["0 2 * * *"]
    everything = wait_until(lambda: served.deployment("all/small"), "deployment of all flows")
    assert everything["schedules"] == []
    (arrivals / "new.tif").write_text("a volume", encoding="utf-8")

    def arrived() -> list[dict[str, Any]]:
        return [run for run in served.flow_runs("data") if "files-arrived" in run["tags"]]

    [run] = wait_until(arrived, "run after a file arrived")
    wait_until(lambda: served.state_of(run["id"]) == "COMPLETED", "end of that run")
    assert project.made.exists()
    assert project.start("flow", "pause", "-e", "small.yaml", "--flow", "data").wait(60) == 0
    (arrivals / "second.tif").write_text("another", encoding="utf-8")
    time.sleep(2)
    assert len(arrived()) == 1
    assert project.start("flow", "resume", "-e", "small.yaml", "--flow", "data").wait(60) == 0
    wait_until(lambda: len(arrived()) == 2, "run after it was resumed")
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert all_gone(below)
    deployment = served.deployment("data/small")
    assert deployment is not None
    assert deployment["paused"], "nobody would run what is due"


def test_a_server_that_does_not_answer_is_an_error_by_name(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    assert server.find_server() is None
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    with pytest.raises(MinivessError) as caught:
        server.find_server()
    assert caught.value.code == "MV-FLOW-002"
    assert "PREFECT_API_URL" in caught.value.expected


def test_a_port_that_is_taken(served: Prefect, tmp_path: Path) -> None:
    port = int(served.api.split(":")[2].split("/")[0])
    with (
        pytest.raises(MinivessError, match="runs on this port already"),
        server.running_server(port, tmp_path),
    ):
        pytest.fail("two servers on one port")


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"cron": "0 2 * *"}, "cron '0 2 * *'"),
        ({"cron": "0 2 * * *", "every_s": 60}, "both"),
        ({"every_s": 0.0}, "an interval of 0 s"),
        ({"folder": Path("nowhere")}, "no folder nowhere"),
        ({"settle_s": 0.0}, "arrived after 0 s"),
    ],
)
def test_a_schedule_that_cannot_be_used(wrong: dict[str, Any], found: str) -> None:
    with pytest.raises(MinivessError) as caught:
        check_schedule(Schedule("demo", **wrong))
    assert caught.value.code == "MV-FLOW-003"
    assert found in caught.value.found


def test_a_schedule_names_a_flow() -> None:
    check_schedule(Schedule("demo", "data", cron="*/5 * * * *"))
    with pytest.raises(MinivessError, match="did you mean analyze"):
        check_schedule(Schedule("demo", "analyse"))


def test_files_have_arrived_when_they_no_longer_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from threading import Event, Thread

    from minivess.flows import serve

    (tmp_path / "old.tif").write_text("old", encoding="utf-8")
    (tmp_path / ".hidden").write_text("", encoding="utf-8")
    (tmp_path / "gone.tif").symlink_to(tmp_path / "moved.tif")  # listed, and not there
    assert list(files_of(tmp_path)) == ["old.tif"]
    starts: list[list[str]] = []
    answers = [False, True, True]

    def start_run(_: Schedule, arrived: list[str]) -> bool:
        starts.append(arrived)
        return answers[len(starts) - 1]

    monkeypatch.setattr(serve, "start_run", start_run)
    stop = Event()
    schedule = Schedule("demo", folder=tmp_path, settle_s=0.2)
    thread = Thread(target=watch_folder, args=(schedule, stop))
    thread.start()
    time.sleep(0.3)
    for size in range(1, 6):
        (tmp_path / "new.tif").write_text("x" * size, encoding="utf-8")
        time.sleep(0.1)
        assert starts == [], "it is still being written"
    wait_until(lambda: len(starts) == 2, "second try, since the server was silent", 10)
    (tmp_path / "new.tif").unlink()
    time.sleep(0.6)
    assert starts == [["new.tif"], ["new.tif"]], "a file that is gone starts nothing"
    stop.set()
    thread.join()


def test_a_flow_outlives_the_server_and_is_shown_by_the_next_one(served: Prefect) -> None:
    """The last one here: afterwards the server is gone."""
    project, home = served.project, served.project.folder / server.HOME
    project.made.unlink(missing_ok=True)
    project.job_takes(8)
    process = project.start("flow", "run", "data", "--experiment", "small.yaml")
    sleeper_of(process)
    record = json.loads((home / server.RECORD).read_text(encoding="utf-8"))
    os.killpg(record["pid"], signal.SIGKILL)
    text, _ = process.communicate(timeout=100)
    assert project.made.exists(), text
    assert process.returncode == 0, text
    assert "the Prefect server does not answer" in text
    project.made.unlink()
    project.job_takes(0)
    port = int(served.api.split(":")[2].split("/")[0])
    with server.running_server(port, home):
        status, text = project.run_flow()
        assert status == 0, text
        states = [run["state"]["type"] for run in served.flow_runs("data")]
        assert states[0] == "COMPLETED"
