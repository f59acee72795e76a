"""From synthetic volumes to a dashboard through Prefect, then a volume never seen, over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flows_project import free_port
from workbench import TINY, Workbench

from minivess import paths
from minivess.config.schema import PhantomConfig
from minivess.data.phantom import write_phantom
from minivess.deploy.bundle import read_bundle
from minivess.deploy.segment import open_session, segment
from minivess.deploy.upload import Limits, read_upload
from minivess.flows import server

pytestmark = pytest.mark.dag
START_S = 120.0
LOSSES = ["dice_ce"]  # several are compared by the DAG's tests


@dataclass(frozen=True)
class Finished:
    """The tiny experiment after all flows, and the server that has seen them."""

    bench: Workbench
    api: str
    status: int
    text: str

    def ask(self, path: str, **query: Any) -> list[dict[str, Any]]:
        answer = httpx.post(f"{self.api}/{path}", json=query, timeout=30)
        answer.raise_for_status()
        return list(answer.json())


# One test: its parts would be spread over pytest's workers, and each would run all flows.
def test_from_data_to_dashboard_and_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with all_flows(tmp_path) as finished:
        all_flows_complete_in_prefect(finished)
        every_job_was_a_task_run(finished)
        the_table_of_metrics_is_an_artifact(finished)
        the_results_are_those_of_an_experiment(finished)
        a_volume_never_seen_is_segmented_through_http(finished, tmp_path, monkeypatch)


@contextmanager
def all_flows(folder: Path) -> Iterator[Finished]:
    """All flows, with one call of the command line; Quarto is not asked for."""
    bench = Workbench(folder)
    bench.write_config(losses=LOSSES)
    bench.look_like_the_project()
    with server.running_server(free_port(), folder / server.HOME) as api:
        variables = {key: value for key, value in bench.env().items() if key != "PREFECT_API_URL"}
        done = subprocess.run(
            [sys.executable, "-m", "minivess", "flow", "run", "all", "-e", "tiny.yaml"],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        yield Finished(bench, api, done.returncode, done.stdout + done.stderr)


def all_flows_complete_in_prefect(finished: Finished) -> None:
    assert finished.status == 0, finished.text[-4000:]
    runs = finished.ask("flow_runs/filter")
    names = [run["name"].split()[0] for run in runs]
    assert sorted(names) == ["all", "analyze", "dashboard", "data", "deploy", "train"]
    assert {run["state"]["type"] for run in runs} == {"COMPLETED"}


def every_job_was_a_task_run(finished: Finished) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        tasks = finished.ask("task_runs/filter", limit=200)
        if {task["state_type"] for task in tasks} == {"COMPLETED"}:
            break
        time.sleep(0.5)
    rules = {task["name"].split("-")[0].split()[0] for task in tasks}
    assert {"train", "predict", "evaluate", "metrics", "figure", "champions"} & rules
    assert {task["state_type"] for task in tasks} == {"COMPLETED"}
    trainings = [task for task in tasks if task["name"].startswith("train tiny")]
    assert len(trainings) == TINY["folds"]["n_folds"] * len(LOSSES)


def the_table_of_metrics_is_an_artifact(finished: Finished) -> None:
    found = finished.ask("artifacts/latest/filter")
    markdown = {one["key"]: one["data"] for one in found if one["type"] == "markdown"}
    text = markdown["tiny-analyze-results"]
    numbers = json.loads(paths.summary(finished.bench.root).read_text(encoding="utf-8"))
    for arm in numbers["arms"]:
        assert f"| {arm['model']} | {arm['loss']} | {arm['metrics']['dice']['mean']:.3f} (" in text
    assert "figures/forest.png](file:///" in text


def the_results_are_those_of_an_experiment(finished: Finished) -> None:
    assert "everything is in results/tiny" in finished.text
    assert finished.bench.planned() == set(), "nothing is left to do"
    assert paths.report(finished.bench.root).is_file()
    quarto = shutil.which("quarto") is not None
    assert quarto == paths.dashboard(finished.bench.root).is_file()
    assert quarto != ("paper and dashboard are left out" in finished.text)


def a_volume_never_seen_is_segmented_through_http(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    config = PhantomConfig(phantom_shape=(40, 36, 10), n_cases=1, phantom_seed=4711)
    [case] = write_phantom(config, tmp_path)
    image = tmp_path / "images" / f"{case}.nii.gz"
    bundle = paths.bundle(finished.bench.root, "balanced")
    process = subprocess.Popen(
        [sys.executable, "-m", "minivess", "serve", "-e", "tiny", "--no-page"],
        cwd=finished.bench.folder,
        env={**finished.bench.env(), "MINIVESS_DEPLOY_SERVICE_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_ready(f"http://127.0.0.1:{port}/readyz", process)
        answer = httpx.post(
            f"http://127.0.0.1:{port}/segment",
            files={"volume": (image.name, image.read_bytes())},
            timeout=120,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, 143)
    assert answer.status_code == 200, answer.text
    mask = tmp_path / "mask.nii.gz"
    mask.write_bytes(answer.content)
    opened = read_bundle(bundle)
    limits = Limits(max_bytes=10**7, max_voxels=10**6)
    given, found = read_upload(image, limits), read_upload(mask, limits)
    assert found.array.shape == given.array.shape
    np.testing.assert_array_equal(found.geometry.affine, given.geometry.affine)
    expected = segment(open_session(opened), opened, given).mask
    assert (found.array == expected).all()
    assert 0 < expected.mean() < 1, "neither nothing nor everything"


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, "the service ended"
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("the service is not ready")
