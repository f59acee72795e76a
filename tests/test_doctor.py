"""What the doctor finds on machines and of experiments that are made for it."""

from __future__ import annotations

import http.server
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner
from workbench import PROJECT, TINY

from minivess import doctor, machine
from minivess.cli import app
from minivess.config.load import resolve_mapping
from minivess.doctor_text import duration, findings_text, forecast_text
from minivess.forecast import Step, forecast
from minivess.machine import Gpu, Machine
from minivess.workflow import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = Machine(4, 64_000, 60_000, 8000, (), frozenset({"avx2"}))


def plan(root: Path = Path("results/x"), n_cases: int = 8, **values: Any) -> Plan:
    experiment = resolve_mapping({"name": "x", **values}, {}, "test")
    cases = tuple(f"phantom_{number:03d}" for number in range(1, n_cases + 1))
    return Plan(experiment, root, cases, (), (), experiment.folds.n_folds)


def demo() -> Plan:
    text = (PROJECT / "configs" / "experiment" / "demo.yaml").read_text(encoding="utf-8")
    return plan(Path("results/demo"), **yaml.safe_load(text))


def by_name(steps: list[Step]) -> dict[str, Step]:
    return {step.name.split()[0]: step for step in steps}


def states(found: list[doctor.Finding]) -> dict[str, str]:
    """The worst state of each name."""
    order = ["ok", "look", "fail"]
    worst: dict[str, str] = {}
    for finding in found:
        before = worst.get(finding.name, "ok")
        worst[finding.name] = max(before, finding.state, key=order.index)
    return worst


def test_the_forecast_of_the_demo_is_near_what_was_measured() -> None:
    """Measured on a quiet machine with two cores, from the jobs' own records and benchmarks."""
    steps = forecast(demo(), cores=2)
    found = by_name(steps)
    measured = {"train": 59.2, "predict": 4.0, "calibrate": 9.2, "preprocess": 1.5}
    for name, seconds in measured.items():
        assert found[name].job_seconds == pytest.approx(seconds, rel=0.5), name
    assert sum(step.seconds for step in steps) == pytest.approx(232, rel=0.25)
    assert found["train"].job_mb == pytest.approx(1317, rel=0.15)
    assert sum(step.disk_mb for step in steps) == pytest.approx(35.4, rel=0.25)
    assert [found[name].jobs for name in ("train", "predict", "evaluate")] == [4, 16, 16]


def test_every_step_of_an_experiment_is_in_the_forecast() -> None:
    both = {"small": {"filters": [4, 4, 4]}, "large": {}}
    steps = forecast(
        plan(models=both, seeds=[0, 1], ensembles={"kinds": ["mean", "uniform_soup"]}), 4
    )
    names = [step.name for step in steps]
    for name in ("small", "large"):
        assert {f"train {name}", f"predict {name}", f"ensembles {name}"} <= set(names)
    assert names.index("train small") < names.index("predict small")
    assert next(step.jobs for step in steps if step.name == "train large") == 2 * 3
    files = plan(data={"source": "csv", "path": "cases.csv"})
    assert "phantom" not in by_name(forecast(files, 4))


@pytest.mark.parametrize("kind", ["mean", "uniform_soup"])
def test_ensembles_run_as_many_at_once_as_their_rule_allows(kind: str) -> None:
    """Each reserves its threads, also where no network computes."""
    made = plan(seeds=[0, 1], ensembles={"kinds": [kind]}, compute={"device": "cpu", "threads": 4})
    assert by_name(forecast(made, 16))["ensembles"].at_once == 4


def test_more_cores_take_less_time_and_more_memory() -> None:
    few, many = (by_name(forecast(demo(), cores))["train"] for cores in (1, 4))
    assert (few.at_once, many.at_once) == (1, 4)
    assert few.seconds == 4 * many.seconds
    assert many.mb == 4 * few.mb


def test_what_fits_is_fine() -> None:
    made = demo()
    found = doctor.examine_experiment(made, forecast(made, 2), LARGE)
    assert set(states(found).values()) == {"ok"}


def test_memory_that_is_too_small_for_all_names_how_many_fit() -> None:
    made = demo()
    steps = forecast(made, 4)
    (found, *_) = doctor.examine_experiment(made, steps, replace(LARGE, free_mb=3600))
    assert found.state == "look"
    assert "run 2 at once" in found.fix
    (found, *_) = doctor.examine_experiment(made, steps, replace(LARGE, free_mb=1000))
    assert found.state == "fail"
    assert "patch_size" in found.fix


def test_a_training_that_never_fits_fails_whatever_else_needs_more_at_once() -> None:
    steps = [Step("train net", 4, 1, 9000, 60, 1.0), Step("evaluate net", 16, 16, 3000, 9, 1.0)]
    (found, *_) = doctor.examine_experiment(demo(), steps, replace(LARGE, free_mb=7000))
    assert (found.state, found.name) == ("fail", "memory")
    assert found.found == "9.5 GB for one job of train net; 7.0 GB are free"
    assert "patch_size" in found.fix
    (found, *_) = doctor.examine_experiment(demo(), steps[1:], replace(LARGE, free_mb=3200))
    assert "one job of evaluate net" in found.found
    assert found.fix == "use a larger machine"
    (found, *_) = doctor.examine_experiment(demo(), steps, replace(LARGE, free_mb=9600))
    assert found.state == "look"
    assert "run 3 at once" in found.fix


def test_a_disk_that_is_too_small_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = replace(demo(), root=tmp_path)
    monkeypatch.setattr(machine, "free_disk_mb", lambda folder: 10.0)
    assert states(doctor.examine_experiment(made, forecast(made, 2), LARGE))["disk"] == "fail"
    assert states(doctor.examine(LARGE, tmp_path))["disk"] == "fail"
    (tmp_path / "made").write_bytes(bytes(40_000_000))
    found = doctor.examine_experiment(made, forecast(made, 2), LARGE)
    assert states(found)["disk"] == "ok", "what is there already needs no more room"


def test_shared_memory_that_is_too_small_fails() -> None:
    made = plan(compute={"workers": 4})
    small = replace(LARGE, shared_mb=1.0)
    found = doctor.examine_experiment(made, forecast(made, 2), small)
    assert states(found)["shared memory"] == "fail"


@pytest.mark.parametrize("gpus", [(), None, (Gpu("large", 80_000.0, 80_000.0),)])
def test_automatic_workers_fit_into_any_shared_memory(gpus: tuple[Gpu, ...] | None) -> None:
    """As in a container: 64 MB, less than four of them would need."""
    made = plan(
        patches={"patch_size": [128, 128, 32], "batch_size": 4}, compute={"workers": "auto"}
    )
    small = replace(LARGE, shared_mb=67.1, gpus=gpus)
    found = doctor.examine_experiment(made, forecast(made, 2), small)
    assert states(found)["shared memory"] == "ok"
    large = replace(LARGE, gpus=gpus)
    (told,) = (
        f.found
        for f in doctor.examine_experiment(made, forecast(made, 2), large)
        if f.name == "shared memory"
    )
    assert told.startswith("0 MB") == (not gpus)


@pytest.mark.parametrize(
    ("values", "fix"),
    [
        ({"patches": {"patch_size": [60, 64, 16]}}, "multiples of [8, 8, 2]"),
        ({"phantom": {"phantom_shape": [64, 64, 8]}}, "at most [64, 64, 8]"),
        ({"models": {"net": {"architecture": "vista3d"}}, "patches": {"patch_size": [64, 64, 8]}},
         "multiples of [16, 16, 16]"),
    ],
)  # fmt: skip
def test_patches_that_no_training_takes_fail(values: dict[str, Any], fix: str) -> None:
    made = plan(**values)
    found = doctor.examine_experiment(made, forecast(made, 2), LARGE)
    assert [f for f in found if f.state == "fail" and fix in f.fix]


def test_a_gpu_that_is_too_small_fails() -> None:
    small = replace(LARGE, gpus=(Gpu("small", 100.0, 100.0),))
    for device, state in (("auto", "fail"), ("cpu", "ok")):
        made = plan(compute={"device": device})
        found = doctor.examine_experiment(made, forecast(made, 2), small)
        assert states(found)["network dynunet"] == state


GPUS = (Gpu("one", 80_000.0, 80_000.0), Gpu("two", 80_000.0, 80_000.0))


def failing(made: Plan, here: Machine = LARGE) -> dict[str, doctor.Finding]:
    found = doctor.examine_experiment(made, forecast(made, 2), here)
    return {finding.name: finding for finding in found if finding.state == "fail"}


@pytest.mark.parametrize(
    ("compute", "needed"),
    [
        ({}, 0),
        ({"device": "cpu", "devices": 2}, 0),
        ({"device": "cuda"}, 1),
        ({"device": "cuda:1"}, 2),
        ({"device": "cuda", "devices": 2}, 2),
        ({"devices": 2}, 2),
    ],
)
def test_gpus_that_are_not_there_fail(compute: dict[str, Any], needed: int) -> None:
    made = plan(compute=compute)
    for count in range(3):
        assert ("GPU" in failing(made, replace(LARGE, gpus=GPUS[:count]))) == (count < needed)
    assert not failing(made, replace(LARGE, gpus=None)), "nothing is known"


def of_csv(folder: Path, there: int, groups: str = "abcd", **values: Any) -> Plan:
    """Cases of which as many have their files."""
    lines = ["case,image,label,group"]
    for number, group in enumerate(groups):
        lines.append(f"c{number},i{number}.nii,l{number}.nii,{group}")
        if number < there:
            (folder / f"i{number}.nii").touch()
            (folder / f"l{number}.nii").touch()
    (folder / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return plan(data={"source": "csv", "path": str(folder / "cases.csv")}, **values)


def test_files_of_cases_that_are_not_there_fail(tmp_path: Path) -> None:
    assert not failing(of_csv(tmp_path, 4))
    (tmp_path / "l0.nii").unlink()
    found = failing(of_csv(tmp_path, 0))
    assert list(found) == ["data"]
    assert found["data"].found == f"not there: {tmp_path / 'l0.nii'}"
    assert not failing(of_csv(tmp_path, 0, folds={"test_cases": ["c0"]})), "a locked label"
    nowhere = plan(data={"source": "csv", "path": str(tmp_path / "none.csv")})
    assert "none.csv" in failing(nowhere)["data"].found


@pytest.mark.parametrize(
    ("groups", "folds", "fails"),
    [
        ("abc", {}, False),
        ("aab", {}, True),
        ("abcd", {"n_folds": 5}, True),
        ("abcd", {"test_cases": ["c0", "c1"]}, True),
        ("abc", {"n_folds": 2}, True),
        ("abc", {"n_folds": 2, "selection_fraction": 0}, False),
    ],
)
def test_more_folds_than_groups_of_cases_fail(
    tmp_path: Path, groups: str, folds: dict[str, Any], fails: bool
) -> None:
    found = failing(of_csv(tmp_path, 4, groups, folds=folds))
    assert list(found) == ["folds"] * fails
    if fails:
        assert "add cases" in found["folds"].fix


def test_weights_to_begin_with_that_are_not_there_fail(tmp_path: Path) -> None:
    made = plan(training={"warm_start": str(tmp_path / "fold{fold}.safetensors")})
    (tmp_path / "fold0.safetensors").touch()
    (tmp_path / "fold1.safetensors").touch()
    found = failing(made)
    assert list(found) == ["warm start"]
    assert found["warm start"].found == f"not there: {tmp_path / 'fold2.safetensors'}"
    (tmp_path / "fold2.safetensors").touch()
    assert not failing(made)


def test_gpus_that_are_not_known_are_told(tmp_path: Path) -> None:
    silent = replace(LARGE, gpus=None)
    (found,) = (f for f in doctor.examine(silent, tmp_path) if f.name == "GPU")
    assert found.state == "look"
    assert "not known" in found.found
    unified = replace(LARGE, gpus=(Gpu("NVIDIA GB10", None, None),))
    (found,) = (f for f in doctor.examine(unified, tmp_path) if f.name == "GPU")
    assert (found.state, found.found) == ("ok", "NVIDIA GB10, of unknown memory")
    for here in (silent, unified):
        made = demo()
        assert set(states(doctor.examine_experiment(made, forecast(made, 2), here)).values()) == {
            "ok"
        }


def test_weights_that_have_seen_the_data_are_told(tmp_path: Path) -> None:
    network = {"fm": {"architecture": "vesselfm", "weights": "a.pt"}}
    patches = {"patch_size": [64, 64, 32]}
    data = {"source": "minivess", "path": str(tmp_path)}
    made = plan(models=network, patches=patches, data=data)
    found = doctor.examine_experiment(made, forecast(made, 2), LARGE)
    assert [f for f in found if f.state == "look" and "MiniVess" in f.found]


def test_intensities_that_published_weights_do_not_know_are_told() -> None:
    network = {"net": {"architecture": "sam", "weights": "a"}}
    for normalisation, told in (("zscore", True), ("minmax", False)):
        made = plan(models=network, preprocess={"normalisation": normalisation})
        found = doctor.examine_experiment(made, forecast(made, 2), LARGE)
        looks = [f for f in found if f.name == "network net" and f.state == "look"]
        assert [f.fix for f in looks] == ["set preprocess.normalisation to minmax"] * told


def test_a_network_that_starts_from_no_weights_has_none_to_tell_of(tmp_path: Path) -> None:
    data = {"source": "minivess", "path": str(tmp_path)}
    for weights, looks in (("a.pt", 2), (None, 0)):
        network = {"fm": {"architecture": "vesselfm", "weights": weights}}
        made = plan(models=network, patches={"patch_size": "auto"}, data=data)
        found = doctor.examine_experiment(made, forecast(made, 2), LARGE)
        assert len([f for f in found if "published weights" in f.found]) == looks


def test_a_machine_without_avx2_is_worth_a_look(tmp_path: Path) -> None:
    old = replace(LARGE, cpu_flags=frozenset())
    assert states(doctor.examine(old, tmp_path))["CPU"] == "look"
    assert states(doctor.examine(LARGE, tmp_path))["CPU"] == "ok"


def test_a_folder_without_rights_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so the system's answer is replaced."""
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert states(doctor.examine(LARGE, tmp_path))["folders"] == "fail"


def test_a_port_in_use_is_worth_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("MINIVESS_DEPLOY_SERVICE_PORT", str(port))
        found = doctor.examine(LARGE, tmp_path)
    assert states(found)["ports"] == "look"
    assert any(str(port) in finding.found for finding in found)


@pytest.fixture
def server() -> Iterator[str]:
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    made = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_a_tracking_server_is_asked(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri, state in (
        (server, "ok"),
        (f"{server}/elsewhere", "look"),
        ("http://127.0.0.1:9", "fail"),
        (f"sqlite:///{tmp_path}/mlflow.db", "ok"),
        (f"sqlite:///{tmp_path}/none/mlflow.db", "fail"),
        ("./mlruns", "fail"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert states(doctor.examine(LARGE, tmp_path))["MLflow"] == state, uri


def test_packages_that_are_not_those_of_the_lock_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text('[[package]]\nname = "torch"\nversion = "0.1"\n', encoding="utf-8")
    monkeypatch.setattr("minivess.provenance.PACKAGE", tmp_path / "minivess")
    found = next(f for f in doctor.examine(LARGE, tmp_path) if f.name == "packages")
    assert found.state == "look"
    assert "not 0.1" in found.found


def test_the_text_has_the_fix_under_what_needs_one() -> None:
    findings = [
        doctor.Finding("ok", "Python", "3.12", "never shown"),
        doctor.Finding("look", "Quarto", "none", "install it"),
    ]
    assert findings_text("Here", findings).splitlines() == [
        "Here",
        "  ok    Python  3.12",
        "  LOOK  Quarto  none",
        "                -> install it",
    ]
    text = forecast_text("demo", [Step("train", 4, 2, 1000, 90, 5.0)])
    assert "2000 MB" in text
    assert "3.0 min" in text
    assert duration(59.4) == "59 s"


def tiny_file(tmp_path: Path, **changes: Any) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump({**TINY, **changes}), encoding="utf-8")
    return file


def test_the_verb_forecasts_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "--experiment", str(file)])
    assert done.exit_code == 0, done.output
    assert "train tiny" in done.output
    assert "Nothing of this would fail." in done.output
    assert sorted(tmp_path.iterdir()) == [file]


def test_the_verb_ends_with_four_where_something_would_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor", "-e", str(file), "batch_size=1000000000"])
    assert done.exit_code == 4
    assert "FAIL  memory" in done.output
