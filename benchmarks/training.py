"""Steps of this trainer and of nnU-Net's: same network, patch, batch and threads, on the CPU.

    just bench training [--patch 128 128 16] [--filters 16 32 64 128] [--steps 6] [--write]

A step is all of it: reading patches, augmentation, forward and backward pass, optimiser. Both sides
train MONAI's DynUNet without deep supervision with Dice and cross-entropy, each with its own
augmentation, in one process on one thread. nnU-Net computes in float32 on a CPU and has no other
setting; this trainer is timed in each precision. `--write` puts the outcome into
docs/reference/benchmarks.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import networks
import nnunet
import page
from sides import Run, add_options, alternate, child, medians, peak_gb, table, timed, verdict

from minivess.environment import choose_kernels, prepare_environment

if TYPE_CHECKING:
    from minivess.config.schema import ComputeConfig
    from minivess.training.trainer import TrainingTask

TITLES = {
    "fast": "this trainer, profile fast (bfloat16)",
    "float32": "this trainer, float32",
    "strict": "this trainer, profile strict (float32, kernels that all CPUs have)",
    "nnunet": "nnU-Net's trainer (float32)",
}
TARGET = 2.5
PACKAGES = ["torch", "monai", "nnunetv2", "torchio", "numpy"]
CASES, SHAPE = 3, (256, 256, 32)


def prepare(folder: Path) -> None:
    """Write phantoms as nnU-Net wants them, and as arrays."""
    import numpy as np

    made = networks.phantoms(CASES, SHAPE)
    cases = [
        nnunet.Case(f"case{number}", image, label, networks.SPACING_UM)
        for number, (image, label) in enumerate(made)
    ]
    names = [case.name for case in cases]
    nnunet.prepare(folder, cases, [{"train": names, "val": names[:1]}])
    for case in cases:
        np.savez(folder / f"{case.name}.npz", image=case.image, label=case.label)


def our_task(
    given: argparse.Namespace, folder: Path, compute: ComputeConfig, epochs: int = 2
) -> TrainingTask:
    """Return what this trainer trains."""
    import numpy as np

    from minivess.config.augment import AugmentConfig
    from minivess.config.schema import LossConfig, PatchConfig, TrainingConfig
    from minivess.losses import build_loss
    from minivess.training.trainer import TrainingTask

    cases = []
    for path in sorted(folder.glob("case*.npz")):
        with np.load(path) as arrays:
            image, label = arrays["image"], arrays["label"]
        cases.append(networks.prepared(path.stem, image, label, networks.SPACING_UM))
    return TrainingTask(
        adapter=networks.adapter(given.filters),
        loss=build_loss("dice_ce", LossConfig()),
        train=cases,
        selection=cases[:1],
        seed=0,
        fold=0,
        patches=PatchConfig(
            patch_size=tuple(given.patch),
            batch_size=given.batch,
            patches_per_epoch=given.steps * given.batch,
        ),
        augment=AugmentConfig(),
        training=TrainingConfig(epochs=epochs),
        compute=compute,
    )


def ours(given: argparse.Namespace, side: str, folder: Path) -> Run:
    """Time an epoch of this trainer."""
    from minivess.config.schema import ComputeConfig
    from minivess.inference.device import prepare_torch

    profile = "fast" if side == "fast" else "strict"
    compute = ComputeConfig(profile=profile, device="cpu", threads=given.threads)
    task = our_task(given, folder, compute)
    prepare_torch(ComputeConfig(profile="strict" if side == "strict" else "fast", threads=1))
    import torch

    from minivess.training.trainer import train_epoch

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    network = task.adapter.build()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    patches = task.patches.model_copy(update={"patches_per_epoch": given.batch})
    train_epoch(replace(task, patches=patches), network, optimizer, 1)
    seconds, cpu = timed(lambda: train_epoch(task, network, optimizer, 2), given.steps)
    return Run(seconds, cpu, peak_gb())


def theirs(given: argparse.Namespace, folder: Path) -> Run:
    """Time as many steps of nnU-Net's trainer."""
    nnunet.environment(folder)
    import torch

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    budget = nnunet.Budget(tuple(given.patch), given.batch, 1, given.steps)
    trainer = nnunet.trainer(
        folder, budget, build=lambda: networks.plain(given.filters, z_first=True)
    )
    batches, _ = trainer.get_dataloaders()
    trainer.network.train()
    trainer.train_step(next(batches))

    def steps() -> None:
        for _ in range(given.steps):
            trainer.train_step(next(batches))

    return Run(*timed(steps, given.steps), peak_gb())


def _same_precision(ratios: dict[str, float]) -> str:
    return (
        f"In the same precision {ratios['float32']:.2f} times, with the strict profile's kernels "
        f"{ratios['strict']:.2f} times."
    )


def section(given: argparse.Namespace, runs: dict[str, list[Run]]) -> str:
    """Return the outcome as a section of the page."""
    middle = medians(runs)
    patch, filters = (" x ".join(map(str, values)) for values in (given.patch, given.filters))
    what = (
        f"One step of training with {given.batch} patches of {patch} voxels, reading and "
        f"augmentation included: MONAI's DynUNet with {filters.replace(' x ', ', ')} filters, "
        f"without deep supervision, Dice and cross-entropy; each side with its own augmentation "
        f"and optimiser. {given.threads} thread(s), one process; {given.runs} runs of "
        f"{given.steps} steps of each side, in turn, each in its own process. nnU-Net has no other "
        "precision than float32 on a CPU. Times as long: of CPU seconds, which other work disturbs "
        "less."
    )
    nnu = middle["nnunet"].cpu_seconds
    lines = ["## Training: `just bench training`", "", what, ""]
    lines += [*table(runs, TITLES, "step", "fast"), ""]
    ratios = {side: nnu / middle[side].cpu_seconds for side in ("fast", "float32", "strict")}
    lines += [verdict("Faster than nnU-Net's trainer with profile fast", ratios["fast"], TARGET)]
    lines += [
        _same_precision(ratios),
        "",
        f"Machine: {page.machine(PACKAGES)}.",
    ]
    return "\n".join(lines)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--patch", type=int, nargs=3, default=[128, 128, 16])
    parser.add_argument("--filters", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6)
    add_options(parser, list(TITLES))
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Measure all sides and print the outcome; or be one part of that, for `--part`."""
    prepare_environment()
    given = parsed(arguments)
    # nnU-Net's kernels are those that torch chooses by itself.
    choose_kernels("strict" if given.part == "strict" else "fast")
    if given.part == "prepare":
        prepare(given.folder)
        return 0
    if given.part:
        run = (
            theirs(given, given.folder)
            if given.part == "nnunet"
            else ours(given, given.part, given.folder)
        )
        print(json.dumps(dataclasses.asdict(run)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        child(Path(__file__), "prepare", Path(name), arguments)
        runs = alternate(Path(__file__), Path(name), arguments, list(TITLES), given.runs)
    body = section(given, runs)
    print(body)
    if given.write is not None:
        page.write_section(given.write, "training", body, page.command("training", arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
