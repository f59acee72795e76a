"""A network fine-tuned from published weights predicts without their file; here they are random."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_random_sam import write_tiny_random_sam

from minivess import paths
from minivess.data.preprocess import open_case
from minivess.errors import MinivessError
from minivess.inference.predict import load_network, predict_case
from minivess.models import ADAPTERS, build_adapter
from minivess.models.one_logit import ReversedAxes
from minivess.models.vesselfm import VesselFMAdapter
from minivess.models.weights import weights_of
from minivess.seeding import torch_seeded
from minivess.training.run import plan_run, write_run
from minivess.training.trainer import fit
from minivess.types import RunKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from minivess.config.schema import Experiment
    from minivess.data.folds import Folds

RUN = RunKey("fm", "dice_ce", 0, 0)


class SmallVesselFM(VesselFMAdapter):
    """vesselFM with two convolutions in place of its 31 million weights, and its thick patches."""

    def build(self) -> torch.nn.Module:
        layers = [torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.Conv3d(2, 1, 1)]
        return ReversedAxes(torch.nn.Sequential(*layers))

    def patch_divisor(self) -> tuple[int, int, int]:
        return 16, 16, 16


def test_it_is_fine_tuned_from_its_file_and_predicts_without_it(
    root: Path,
    folds: Folds,
    make_experiment: Callable[..., Experiment],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ADAPTERS, "small_fm", SmallVesselFM)
    file = tmp_path / "model.safetensors"
    experiment = make_experiment(
        models={"fm": {"architecture": "small_fm", "weights": str(file)}},
        # The volumes have 24 x 24 x 8 voxels.
        patches={"patch_size": (32, 16, 16), "pad_thin": True},
        training={"epochs": 1, "learning_rate": 1e-4},
    )
    plan = plan_run(experiment, RUN, folds, root)
    with pytest.raises(MinivessError, match="MV-MODEL-001"):
        fit(plan.task, tmp_path / "none", lambda row: None)

    with torch_seeded(7, "test"):
        published = build_adapter(experiment.models["fm"], (1.0, 1.0, 5.0)).build()
    save_file(weights_of(published.get_submodule("network")), file)
    with_file = plan_run(experiment, RUN, folds, root)
    assert with_file.run_digest != plan.run_digest
    result = fit(with_file.task, tmp_path / "state", lambda row: None)
    before = weights_of(published)
    for name, tensor in result.weights.items():
        assert not torch.equal(before[name], tensor), "it was trained"
        assert torch.allclose(before[name], tensor, atol=1e-2), "it began from those, not others"

    file.unlink()
    run = tmp_path / "run"
    write_run(experiment, with_file, result, run)
    case = open_case(paths.preprocessed_case(root, with_file.fold.validation[0]))
    trained = load_network(run)
    probability, mask = predict_case(trained, case, experiment.inference, experiment.compute)
    assert probability.shape == mask.shape == case.shape


def test_sam_is_trained_from_its_folder_and_predicts_without_it(
    root: Path, folds: Folds, make_experiment: Callable[..., Experiment], tmp_path: Path
) -> None:
    folder = write_tiny_random_sam(tmp_path / "tiny_random_sam")
    keys = {"architecture": "sam", "encoder": "tiny_random", "weights": str(folder)}
    experiment = make_experiment(
        models={"fm": keys}, patches={"patch_size": (8, 8, 2)}, training={"epochs": 1}
    )
    plan = plan_run(experiment, RUN, folds, root)
    decided = {decision.name: decision for decision in plan.decisions}
    assert "mask decoder" in decided["arch_trained"].value
    assert "spacing" not in decided["arch_trained"].reason
    result = fit(plan.task, tmp_path / "state", lambda row: None)
    published = load_file(folder / "model.safetensors")
    frozen = "vision_encoder.layers.0.mlp.lin1.weight"
    assert torch.equal(result.weights[f"network.{frozen}"], published[frozen])
    trained = "mask_decoder.upscale_conv1.weight"
    assert not torch.equal(result.weights[f"network.{trained}"], published[trained])

    shutil.rmtree(folder)
    run = tmp_path / "run"
    write_run(experiment, plan, result, run)
    case = open_case(paths.preprocessed_case(root, plan.fold.validation[0]))
    trained_network = load_network(run)
    probability, mask = predict_case(
        trained_network, case, experiment.inference, experiment.compute
    )
    assert probability.shape == mask.shape == case.shape
