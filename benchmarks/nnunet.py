"""nnU-Net as its users run it: its commands plan, its trainer trains, its predictor predicts.

Its folders are in the environment before it is imported, so each process calls `environment` first.
nnU-Net reads volumes as (z, y, x).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from minivess.types import Array, Shape, Spacing

# Its command `nnUNetv2_plan_and_preprocess`, which only an installed environment has as a file.
PLAN = (
    "from nnunetv2.experiment_planning import plan_and_preprocess_entrypoints as own\n"
    "own.plan_and_preprocess_entry()"
)
DATASET, CONFIGURATION = "Dataset001_vessels", "3d_fullres"


@dataclass(frozen=True, eq=False)
class Case:
    """A volume and its label, (x, y, z), and its spacing in um."""

    name: str
    image: Array
    label: Array
    spacing_um: Spacing


@dataclass(frozen=True)
class Budget:
    """What a training may use: patch (x, y, z), patches per step, epochs and steps of an epoch."""

    patch: Shape
    batch: int
    epochs: int
    steps: int


def environment(folder: Path, workers: int = 0, compiled: bool = False) -> None:
    """Set nnU-Net's folders and have it compute in this process alone, or as it does on a GPU.

    Args:
        folder: of `prepare`.
        workers: processes that augment; its own default is 12, on a CPU as well.
        compiled: whether its network is compiled, as by default on a GPU.
    """
    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    compiling = {"nnUNet_compile": "t" if compiled else "f"}
    os.environ |= {"nnUNet_n_proc_DA": str(workers), "nnUNet_def_n_proc": "1", **compiling}


def prepare(folder: Path, cases: Sequence[Case], splits: list[dict[str, list[str]]]) -> None:
    """Write the cases as nnU-Net wants them, and have it plan and preprocess them."""
    import nibabel

    environment(folder)
    raw = folder / "raw" / DATASET
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True, exist_ok=True)
    for case in cases:
        affine = np.diag([*case.spacing_um, 1.0])
        image = nibabel.Nifti1Image(case.image.astype(np.float32), affine)
        nibabel.save(image, raw / "imagesTr" / f"{case.name}_0000.nii.gz")
        label = nibabel.Nifti1Image(case.label.astype(np.uint8), affine)
        nibabel.save(label, raw / "labelsTr" / f"{case.name}.nii.gz")
    about = {
        "channel_names": {"0": "microscopy"},
        "labels": {"background": 0, "vessel": 1},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
    command = [sys.executable, "-c", PLAN, "-d", "1", "-c", CONFIGURATION, "-np", "1", "-npfp", "1"]
    # Its planner asks for threads of this number.
    planning = os.environ | {"nnUNet_n_proc_DA": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=planning)
    if done.returncode:
        raise SystemExit(f"nnU-Net's planning failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    home = folder / "preprocessed" / DATASET
    (home / "splits_final.json").write_text(json.dumps(splits), encoding="utf-8")


def planned(folder: Path) -> tuple[str, str]:
    """Return the network and the patch (x, y, z) that nnU-Net planned, in words."""
    plan = _read(folder, "nnUNetPlans.json")["configurations"][CONFIGURATION]
    filters = plan["architecture"]["arch_kwargs"]["features_per_stage"]
    patch = " x ".join(str(voxels) for voxels in plan["patch_size"][::-1])
    return f"a U-Net with {', '.join(str(one) for one in filters)} filters", patch


def _read(folder: Path, name: str) -> Any:
    path = folder / "preprocessed" / DATASET / name
    return json.loads(path.read_text(encoding="utf-8"))


def trainer(
    folder: Path,
    budget: Budget,
    fold: int = 0,
    build: Callable[[], torch.nn.Module] | None = None,
    topology: dict[str, Any] | None = None,
    device: str = "cpu",
) -> Any:
    """Return nnU-Net's own trainer, initialised.

    Args:
        folder: of `prepare`.
        budget: its patch, batch, epochs and steps.
        fold: which of the splits.
        build: the network, without deep supervision; none for that of its plan.
        topology: what its plan's network has other than planned.
        device: cpu or cuda.
    """
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Trainer(nnUNetTrainer):  # type: ignore[misc]
        def __init__(
            self, plans: dict, configuration: str, fold: int, dataset_json: dict, device: Any
        ) -> None:
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.enable_deep_supervision = build is None
            self.num_epochs = budget.epochs
            self.num_iterations_per_epoch = budget.steps
            # Its pseudo Dice of validation patches chooses nothing here.
            self.num_val_iterations_per_epoch = 1

        @staticmethod
        def build_network_architecture(
            plans_manager: Any,
            configuration_manager: Any,
            num_input_channels: int,
            num_output_channels: int,
            enable_deep_supervision: bool = True,
        ) -> torch.nn.Module:
            if build is not None:
                return build()
            network: torch.nn.Module = nnUNetTrainer.build_network_architecture(
                plans_manager,
                configuration_manager,
                num_input_channels,
                num_output_channels,
                enable_deep_supervision,
            )
            return network

        def set_deep_supervision_enabled(self, enabled: bool) -> None:
            if build is None:
                super().set_deep_supervision_enabled(enabled)

    plans = _read(folder, "nnUNetPlans.json") | {"continue_training": False}
    plan = plans["configurations"][CONFIGURATION]
    plan["patch_size"], plan["batch_size"] = list(budget.patch[::-1]), budget.batch
    if topology is not None:
        plan["architecture"]["arch_kwargs"] |= topology
    found = Trainer(plans, CONFIGURATION, fold, _read(folder, "dataset.json"), torch.device(device))
    found.initialize()
    return found


def planned_like(
    filters: Sequence[int], kernels: Sequence[Shape], strides: Sequence[Shape]
) -> dict[str, Any]:
    """Return the keys by which nnU-Net's own U-Net has given filters, kernels and strides."""
    levels = len(filters)
    return {
        "n_stages": levels,
        "features_per_stage": list(filters),
        "kernel_sizes": [list(kernel[::-1]) for kernel in kernels],
        "strides": [list(stride[::-1]) for stride in strides],
        "n_conv_per_stage": [2] * levels,
        "n_conv_per_stage_decoder": [2] * (levels - 1),
    }


def segment(trained: Any, case: Case, mirroring: bool) -> Array:
    """Return the mask (x, y, z) of a case, as nnU-Net's predictor makes it with these weights.

    Args:
        trained: a trainer; its present weights predict.
        case: volume and spacing; its label is not used.
        mirroring: over the axes that it was trained to mirror.
    """
    own = predictor(mirroring, overlap=0.5)
    own.manual_initialization(
        trained.network,
        trained.plans_manager,
        trained.configuration_manager,
        [trained.network.state_dict()],
        trained.dataset_json,
        type(trained).__name__,
        trained.inference_allowed_mirroring_axes,
    )
    trained.set_deep_supervision_enabled(False)
    volume = np.ascontiguousarray(case.image.T[None], dtype=np.float32)
    properties = {"spacing": list(case.spacing_um[::-1])}
    mask: Array = np.asarray(own.predict_single_npy_array(volume, properties))
    return mask.T


def predictor(mirroring: bool, overlap: float) -> Any:
    """Return nnU-Net's predictor on the CPU, without a network."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    return nnUNetPredictor(
        tile_step_size=1 - overlap,
        use_gaussian=True,
        use_mirroring=mirroring,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
