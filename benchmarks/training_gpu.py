"""Steps of this trainer and of nnU-Net's on a GPU: same network, patch, batch and worker processes.

    just bench training_gpu [--patch 128 128 32] [--filters 32 64 128 256] [--workers 12] [--write]

A step is all of it: reading patches, augmentation, forward and backward pass, optimiser. Both sides
train MONAI's DynUNet without deep supervision with Dice and cross-entropy, each with its own
augmentation and precision (bfloat16; nnU-Net float16 with a scaler), compiled and not. Every side
is a process that stays, and takes as many steps untimed before each timed run. How much of the
card is used: multiplications and additions of the convolutions, forward and twice backward, over
those of a large product of matrices in bfloat16 in the same time. `--write` puts the outcome into
docs/reference/benchmarks.md.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import nnunet
import page
import training
from sides import Run, add_options, answering, child, in_turn, medians, verdict

from minivess.environment import choose_kernels, prepare_environment

TITLES = {
    "fast": "this trainer, profile fast (bfloat16)",
    "compiled": "the same with `compute.compile=true`",
    "nnunet": "nnU-Net's trainer (float16), compiled: its default",
    "nnunet_eager": "the same, not compiled",
}
TARGET = 1.3
PACKAGES = ["torch", "monai", "nnunetv2", "torchio", "numpy"]
MATRIX, PRODUCTS = 8192, 20


def ours(given: argparse.Namespace, side: str) -> Callable[[], Any]:
    """Return what takes some steps of this trainer."""
    from minivess.config.schema import ComputeConfig
    from minivess.inference.device import prepare_torch

    compute = ComputeConfig(
        profile="fast", device="cuda", workers=given.workers, compile=side == "compiled"
    )
    prepare_torch(compute)
    import torch

    from minivess.training.loading import batches
    from minivess.training.optimisation import make_optimizer
    from minivess.training.trainer import train_epoch

    task = training.our_task(given, given.folder, compute, epochs=2 * given.runs + 1)
    torch.manual_seed(0)
    network = task.adapter.build().to("cuda")
    optimizer = make_optimizer(network.parameters(), task.training)
    if compute.compile:
        network.compile()
    source = batches(task, 1, task.training.epochs)
    epochs = iter(range(1, task.training.epochs + 1))
    return lambda: train_epoch(task, network, optimizer, next(epochs), None, source)


def theirs(given: argparse.Namespace, side: str) -> Callable[[], Any]:
    """Return what takes as many steps of nnU-Net's trainer."""
    nnunet.environment(given.folder, given.workers, compiled=side == "nnunet")
    import torch

    torch.manual_seed(0)
    budget = nnunet.Budget(tuple(given.patch), given.batch, 1, given.steps)
    trainer = nnunet.trainer(
        given.folder,
        budget,
        build=lambda: networks.plain(given.filters, z_first=True),
        device="cuda",
    )
    batches, _ = trainer.get_dataloaders()
    trainer.network.train()

    def steps() -> None:
        for _ in range(given.steps):
            trainer.train_step(next(batches))

    return steps


def side(given: argparse.Namespace) -> None:
    """Take steps whenever asked."""
    import torch

    # nnU-Net's kernels are those that torch chooses by itself, and so are this trainer's here.
    make = theirs if given.part.startswith("nnunet") else ours
    steps = make(given, given.part)
    steps()

    def run() -> Run:
        steps()
        torch.cuda.synchronize()
        begin, cpu = time.perf_counter(), time.process_time()
        steps()
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - begin) / given.steps
        memory = torch.cuda.max_memory_allocated() / 1e9
        return Run(seconds, (time.process_time() - cpu) / given.steps, memory)

    answering(run)


def card() -> tuple[str, float]:
    """Return the name of the GPU, and how many operations a second its matrix products do."""
    import torch

    one, other = (
        torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16) for _ in range(2)
    )
    for _ in range(3):
        one @ other
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(PRODUCTS):
        one @ other
    torch.cuda.synchronize()
    rate = PRODUCTS * 2 * MATRIX**3 / (time.perf_counter() - begin)
    return torch.cuda.get_device_name(), rate


def operations(given: argparse.Namespace) -> float:
    """Return the multiplications and additions of a step: forward, and twice as many backward."""
    from minivess.models.levels import multiply_adds

    voxels = given.batch * math.prod(given.patch)
    return 3 * 2 * multiply_adds(networks.adapter(given.filters).levels()) * voxels


def section(
    given: argparse.Namespace, runs: dict[str, list[Run]], name: str, rate: float, needed: float
) -> str:
    """Return the outcome as a section of the page."""
    middle = medians(runs)
    patch, filters = " x ".join(map(str, given.patch)), ", ".join(map(str, given.filters))
    what = (
        f"One step of training with {given.batch} patches of {patch} voxels, reading and "
        f"augmentation included: MONAI's DynUNet with {filters} filters, without deep supervision, "
        f"Dice and cross-entropy; each side with its own augmentation and optimiser, "
        f"{given.workers} processes that prepare patches. {given.runs} runs of {given.steps} steps "
        "of each side, in turn, each after as many that are not timed; memory is the GPU's."
    )
    lines = ["## Training on a GPU: `just bench training_gpu`", "", what, ""]
    lines += ["| | steps per second | ms per step | range, ms | of the matrix-product rate | GB |"]
    lines += ["|---|---|---|---|---|---|"]
    for side_name, many in runs.items():
        run, spread = middle[side_name], [1e3 * one.seconds for one in many]
        lines.append(
            f"| {TITLES[side_name]} | {1 / run.seconds:.1f} | {1e3 * run.seconds:.1f} "
            f"| {min(spread):.1f} to {max(spread):.1f} | {needed / run.seconds / rate:.1%} "
            f"| {run.peak_gb:.2f} |"
        )
    lines.append("")
    fastest = min(middle["nnunet"].seconds, middle["nnunet_eager"].seconds)
    for own, words in (("fast", "Faster"), ("compiled", "Compiled, faster")):
        ratio = fastest / middle[own].seconds
        lines.append(verdict(f"{words} than the faster of nnU-Net's two", ratio, TARGET))
    lines += [
        f"A product of matrices of {MATRIX} x {MATRIX} in bfloat16: {rate / 1e12:.0f} TFLOP/s."
    ]
    return "\n".join([*lines, "", f"Machine: {name}, {page.machine(PACKAGES)}."])


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--patch", type=int, nargs=3, default=[128, 128, 32])
    parser.add_argument("--filters", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--workers", type=int, default=12, help="nnU-Net's default")
    parser.add_argument("--steps", type=int, default=100)
    add_options(parser, list(TITLES))
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Measure all sides and print the outcome; or be one part of that, for `--part`."""
    prepare_environment()
    given = parsed(arguments)
    choose_kernels("fast")
    if given.part == "prepare":
        training.prepare(given.folder)
        return 0
    if given.part:
        side(given)
        return 0
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device: `just bench training` compares on the CPU")
    with tempfile.TemporaryDirectory() as name:
        child(Path(__file__), "prepare", Path(name), arguments)
        runs = in_turn(Path(__file__), Path(name), arguments, list(TITLES), given.runs)
    body = section(given, runs, *card(), operations(given))
    print(body)
    if given.write is not None:
        page.write_section(
            given.write, "training_gpu", body, page.command("training_gpu", arguments)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
