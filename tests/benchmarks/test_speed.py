"""The sides of the speed benchmarks do the same work; nnU-Net itself is not needed here."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
OWN = ("page", "sides", "networks", "nnunet", "inference", "patches", "training")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Imports a module of benchmarks/, as it is where it runs: its folder is on the path."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in OWN:
        sys.modules.pop(name, None)


def test_the_networks_of_all_sides_are_one(load) -> None:
    networks: ModuleType = load("networks")
    filters = (4, 8, 8)
    torch.manual_seed(0)
    ours = networks.adapter(filters).build().eval()
    weights = ours.state_dict()
    plain, turned = networks.plain(filters).eval(), networks.plain(filters, z_first=True).eval()
    plain.load_state_dict(weights)
    turned.load_state_dict(networks.turned(weights))
    image = torch.randn(1, 1, 16, 12, 4)
    with torch.no_grad():
        found = ours(image)
        torch.testing.assert_close(found, plain(image), rtol=1e-4, atol=1e-4)
        there = turned(image.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)
        torch.testing.assert_close(found, there, rtol=1e-4, atol=1e-4)


def test_this_predictor_and_monai_give_the_same_mask(load, tmp_path: Path) -> None:
    inference: ModuleType = load("inference")
    small = ["--shape", "32", "24", "8", "--window", "16", "16", "4", "--filters", "4", "8", "8"]
    given = inference.parsed([*small, "--steps", "3"])
    inference.prepare(tmp_path, given)
    weights = inference.IMAGE, inference.WEIGHTS
    assert all((tmp_path / name).exists() for name in weights)
    networks = sys.modules["networks"]
    from safetensors.torch import load_file

    image, state = np.load(tmp_path / weights[0]), load_file(tmp_path / weights[1])
    masks = {}
    for side, network in (
        ("float32", networks.adapter(given.filters).build()),
        ("monai", networks.plain(given.filters)),
    ):
        with torch.no_grad():
            for name, tensor in network.named_parameters():
                tensor.copy_(state[name])
        masks[side] = inference._WORK[side](network.eval(), image, given)()
    assert masks["float32"].shape == tuple(given.shape)
    # A voxel at the threshold itself may round to either side.
    assert int((masks["float32"] ^ masks["monai"]).sum()) <= 2
    assert inference.dice(masks["float32"], masks["monai"]) > 0.99


def test_both_sides_give_the_promised_patches(load, tmp_path: Path) -> None:
    patches: ModuleType = load("patches")
    given = patches.parsed(
        ["--shape", "24", "24", "8", "--patch", "8", "8", "4", "--cases", "1", "--patches", "6"]
    )
    patches.prepare(tmp_path, given)
    found = {side: patches.measure(side, tmp_path, given) for side in ("ours", "cache_twice")}
    assert all(run.seconds > 0 for run in found.values())
    assert found["ours"].seconds < found["cache_twice"].seconds


def test_nnunets_plan_has_this_projects_topology(load) -> None:
    nnunet: ModuleType = load("nnunet")
    found = nnunet.planned_like((4, 8), [(3, 3, 1), (3, 3, 3)], [(1, 1, 1), (2, 2, 1)])
    assert found["kernel_sizes"] == [[1, 3, 3], [3, 3, 3]]
    assert found["strides"] == [[1, 1, 1], [1, 2, 2]]
    assert found["n_conv_per_stage_decoder"] == [2]


def test_ratios_are_of_medians_of_cpu_seconds(load) -> None:
    sides: ModuleType = load("sides")
    training: ModuleType = load("training")
    runs = {
        side: [sides.Run(9 * factor, value * factor, 1.0) for value in (1.0, 2.0, 30.0)]
        for side, factor in (("fast", 1), ("float32", 2), ("strict", 3), ("nnunet", 4))
    }
    training.page.machine = lambda packages: "a machine"
    given: argparse.Namespace = training.parsed(["--runs", "3"])
    text = training.section(given, runs)
    assert "4.00 times (target: at least 2.5, holds)" in text
    assert "In the same precision 2.00 times" in text
    assert "128 x 128 x 16 voxels" in text
