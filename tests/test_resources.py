"""What the jobs of a rule ask a cluster for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from workbench import PROJECT, TINY

from minivess import paths, resources, workflow
from minivess.config.load import resolve_mapping
from minivess.inference.sliding_window import predict_probability
from minivess.resources import LARGEST_SHAPE, rule_resources
from minivess.workflow import Plan

RULES = (*resources.COSTS, "train", "predict", "ensembles", "calibrate")


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "gpu_count", lambda: 0)


def plan(root: Path = Path("results/x"), n_cases: int = 8, **values: Any) -> Plan:
    experiment = resolve_mapping({"name": "x", **values}, {}, "test")
    cases = tuple(f"phantom_{number:03d}" for number in range(1, n_cases + 1))
    return Plan(experiment, root, cases, (), (), experiment.folds.n_folds)


def asked(rule: str, made: Plan, attempt: int = 1) -> Mapping[str, int]:
    found = rule_resources(rule, made)
    # The first of its models, which is called dynunet where nobody has named another.
    model = next(iter(made.experiment.models))
    wildcards = SimpleNamespace(model=model, case="phantom_001", set="other")
    return {
        name: value(wildcards, attempt) if callable(value) else value
        for name, value in found.items()
    }


@pytest.mark.parametrize("rule", RULES)
def test_every_estimate_is_a_whole_number_that_a_cluster_takes(rule: str) -> None:
    found = asked(rule, plan())
    assert set(found) == {"mem_mb", "runtime"}
    assert all(isinstance(value, int) for value in found.values())
    assert found["mem_mb"] > resources.SNAKEMAKE_MB
    assert found["runtime"] >= 10


@pytest.mark.parametrize("rule", RULES)
def test_a_second_attempt_asks_for_twice_as_much(rule: str) -> None:
    first, second = asked(rule, plan()), asked(rule, plan(), attempt=2)
    assert second == {name: 2 * value for name, value in first.items()}


@pytest.mark.parametrize("rule", RULES)
def test_larger_volumes_take_more(rule: str) -> None:
    small, large = ({"phantom_shape": [size, size, 64]} for size in (64, 1024))
    # A training sees volumes where it selects the checkpoint.
    less, more = asked(rule, plan(phantom=small)), asked(rule, plan(phantom=large))
    assert more["mem_mb"] > less["mem_mb"]
    assert more["runtime"] >= less["runtime"]


def test_a_training_without_selection_cases_predicts_no_volume() -> None:
    values = {"phantom": {"phantom_shape": [1024, 1024, 64]}, "training": {"selection_every": 1}}
    some, none = plan(**values), plan(**values, folds={"selection_fraction": 0})
    assert asked("train", none)["mem_mb"] < asked("train", some)["mem_mb"]
    assert asked("train", none)["runtime"] < asked("train", some)["runtime"]


@pytest.mark.parametrize(
    "values",
    [
        {"patches": {"patch_size": [256, 256, 32]}},
        {"patches": {"batch_size": 64}},
        {"models": {"dynunet": {"filters": [64, 128, 256, 512]}}},
        {"loss": {"skeleton_iterations": 100}},
        {"compute": {"workers": 8}},
        {"compute": {"devices": 2}},
        {"training": {"swa_start": 50, "swag_rank": 20}},
    ],
    ids=lambda values: next(iter(values)),
)
def test_what_takes_more_memory_in_a_training_asks_for_more(values: dict[str, Any]) -> None:
    assert asked("train", plan(**values))["mem_mb"] > asked("train", plan())["mem_mb"]


def test_ensembles_that_compute_ask_for_more_time() -> None:
    shape = {"phantom_shape": [256, 256, 64]}
    none, read, predicted, tried = (
        asked("ensembles", plan(phantom=shape, seeds=[0, 1], ensembles={"kinds": kinds}))["runtime"]
        for kinds in ([], ["mean"], ["uniform_soup"], ["greedy_soup"])
    )
    assert none == read < predicted < tried


def test_a_longer_training_asks_for_more_time_but_no_more_memory() -> None:
    short, long = (plan(training={"epochs": epochs}) for epochs in (100, 1000))
    assert asked("train", long)["runtime"] > 5 * asked("train", short)["runtime"]
    assert asked("train", long)["mem_mb"] == asked("train", short)["mem_mb"]


def test_the_demo_asks_for_more_than_its_measured_peaks() -> None:
    """Peaks in MB (max_rss of Snakemake's benchmark): 1245 of a training, 740 of a prediction."""
    text = (PROJECT / "configs" / "experiment" / "demo.yaml").read_text(encoding="utf-8")
    experiment = resolve_mapping({"name": "demo", **yaml.safe_load(text)}, {}, "demo")
    demo = Plan(experiment, Path("results/demo"), plan().cases, (), (), 2)
    for rule, peak in (("train", 1245), ("predict", 740)):
        found = asked(rule, demo)["mem_mb"] - resources.SNAKEMAKE_MB
        assert 1.3 * peak < found < 2.5 * peak


def test_only_networks_get_a_gpu_and_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = plan(compute={"device": "cuda", "devices": 2})
    assert {rule: asked(rule, wanted).get("gpu") for rule in RULES} == {
        **dict.fromkeys(resources.COSTS),
        "train": 2,
        "predict": 1,
        "ensembles": None,
        "calibrate": 1,
    }
    soups = plan(compute={"device": "cuda"}, ensembles={"kinds": ["uniform_soup"]}, seeds=[0, 1])
    assert asked("ensembles", soups)["gpu"] == 1
    assert "gpu_turn" not in asked("train", wanted)
    assert asked("predict", wanted)["gpu_turn"] == 1
    monkeypatch.setattr(resources, "gpu_count", lambda: 4)
    assert asked("train", plan())["gpu"] == 1
    assert "gpu" not in asked("train", plan(compute={"device": "cpu"}))


def test_an_external_set_asks_for_the_largest_volume_and_for_every_network() -> None:
    one = plan(phantom={"phantom_shape": [16, 16, 8]})
    large = plan(phantom={"phantom_shape": list(LARGEST_SHAPE)})
    external = asked("evaluate_external", one)
    assert external["mem_mb"] >= asked("predict", large)["mem_mb"]
    seeds = asked("evaluate_external", plan(seeds=[0, 1, 2]))
    assert seeds["runtime"] > 2 * external["runtime"] > 2 * asked("predict", large)["runtime"]
    wanted = plan(compute={"device": "cuda", "devices": 2})
    assert asked("evaluate_external", wanted)["gpu"] == 1


def test_with_a_gpu_a_training_asks_for_less_time_and_for_its_libraries() -> None:
    cpu, gpu = (plan(training={"epochs": 1000}, compute={"device": d}) for d in ("cpu", "cuda"))
    assert asked("train", gpu)["runtime"] < asked("train", cpu)["runtime"]
    assert asked("train", gpu)["mem_mb"] >= asked("train", cpu)["mem_mb"] + resources.CUDA_MB


def test_shapes_come_from_the_manifest_once_there_is_one(tmp_path: Path) -> None:
    made = plan(tmp_path, data={"source": "csv", "path": "cases.csv"})
    assert resources.case_shape(made, "phantom_001") == LARGEST_SHAPE
    table = pl.DataFrame(
        {
            "case": ["phantom_001", "phantom_002", "broken"],
            "shape": [[64, 64, 8], [128, 128, 8], None],
        }
    )
    paths.manifest(tmp_path).parent.mkdir(parents=True)
    table.write_parquet(paths.manifest(tmp_path))
    assert resources.case_shape(made, "phantom_001") == (64, 64, 8)
    assert resources.case_shape(made, None) == (128, 128, 8)
    assert resources.case_shape(made, "broken") == LARGEST_SHAPE
    assert (
        asked("predict", made)["mem_mb"]
        < asked("predict", plan(Path("x"), data=made_data()))["mem_mb"]
    )


def made_data() -> dict[str, str]:
    return {"source": "csv", "path": "cases.csv"}


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_the_windows_are_those_that_are_predicted(overlap: float) -> None:
    import torch

    seen: list[int] = []

    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            seen.append(math.prod(batch.shape))
            return torch.cat([batch, batch], dim=1) * self.scale

    shape, window = (40, 37, 9), (16, 16, 8)
    predict_probability(Counting(), np.zeros(shape, np.float32), window, overlap, 3)
    assert resources.windowed_voxels(shape, window, overlap) == sum(seen)


def test_threads_elsewhere_are_those_of_the_config_whatever_this_machine_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workflow, "gpu_count", lambda: 1)
    experiment = plan(compute={"threads": 3, "workers": 2}).experiment
    assert workflow.job_threads(experiment, None) == 5
    assert workflow.job_threads(experiment, None, processes=2) == 10
    assert workflow.job_threads(experiment, 16) == 16


def test_automatic_workers_are_counted_where_there_may_be_some() -> None:
    def of(device: str, workers: int | str) -> Plan:
        return plan(compute={"device": device, "workers": workers})

    for device, most in (("cpu", 0), ("auto", 0), ("cuda", 4)):
        automatic, named = (
            resources.estimate("train", of(device, workers), SimpleNamespace(model="dynunet"))[0]
            for workers in ("auto", most)
        )
        assert automatic == named, device
    assert workflow.job_threads(of("cpu", "auto").experiment, None) == 1
    assert workflow.job_threads(of("cuda", "auto").experiment, None) == 5


@pytest.mark.parametrize("name", ["ci", "slurm", "kubernetes"])
def test_every_profile_keeps_what_the_default_one_decides(name: str) -> None:
    """A profile given on the command line replaces the default one."""

    def profile(folder: str) -> dict[str, Any]:
        path = PROJECT / "profiles" / folder / "config.yaml"
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert isinstance(values, dict)
        return values

    own, default = profile(name), profile("default")
    for key in ("rerun-incomplete", "keep-going", "nolock"):
        assert own[key] == default[key]


def test_tiny_jobs_fit_a_machine_with_two_cores() -> None:
    tiny = plan(n_cases=4, **TINY)
    assert asked("train", tiny)["mem_mb"] < 3000
    assert asked("train", tiny)["runtime"] == resources.SHORTEST_MINUTES
