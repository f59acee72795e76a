"""Time and memory of every loss, forward and backward, on one patch.

    just bench losses [--shape 128 128 32] [--runs 5] [--write]

Each loss runs in a process of its own, on one thread, on the label of a phantom and on random
logits. The memory is what the process's peak rises by, over that of a warm-up on a small patch.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import page

from minivess.environment import prepare_environment

SPACING_UM = (1.0, 1.0, 5.0)
PACKAGES = ["torch", "monai", "scipy", "numpy"]
WARM_UP = (16, 16, 8)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measure(name: str, shape: tuple[int, int, int], runs: int) -> dict[str, float]:
    """Return the median seconds and the rise of the peak memory in MB of one loss."""
    import torch

    from minivess.config.schema import ComputeConfig, PhantomConfig
    from minivess.config.training import LossConfig
    from minivess.data.phantom import make_phantom
    from minivess.data.skeletons import tubed_skeleton
    from minivess.inference.device import prepare_torch
    from minivess.losses import build_loss, needs_of
    from minivess.losses.needs import SKELETON, SPACING

    prepare_torch(ComputeConfig(device="cpu", threads=1))
    config = PhantomConfig(phantom_shape=shape, phantom_spacing_um=SPACING_UM, n_trees=3)
    mask = make_phantom(config, 0).label > 0
    label = torch.from_numpy(mask)[None, None].to(torch.uint8)
    # Training reads the skeleton with the label: its time is not the loss's.
    skeleton = torch.from_numpy(tubed_skeleton(mask))[None, None].to(torch.uint8)
    spacing, needs = torch.tensor([SPACING_UM]), needs_of(name)
    loss = build_loss(name, LossConfig())
    random = torch.Generator().manual_seed(0)
    seconds, before = [], 0.0
    for index in range(runs + 1):
        part = tuple(slice(n) for n in (WARM_UP if index == 0 else shape))
        target = label[(..., *part)].contiguous()
        others = {SKELETON: skeleton[(..., *part)].contiguous(), SPACING: spacing}
        needed = {key: tensor for key, tensor in others.items() if key in needs}
        logits = torch.randn(1, 2, *target.shape[2:], generator=random, requires_grad=True)
        start = time.perf_counter()
        loss(logits, target, **needed).backward()
        if index == 0:
            before = _peak_mb()
        else:
            seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds), "mb": _peak_mb() - before}


def section(found: dict[str, dict[str, float]], shape: tuple[int, ...], runs: int) -> str:
    """Return the outcome as a section of the page, the fastest loss first."""
    size = " x ".join(map(str, shape))
    rows = ["| loss | median, s | memory, MB |", "|---|---|---|"]
    for name, one in sorted(found.items(), key=lambda item: item[1]["seconds"]):
        rows.append(f"| `{name}` | {one['seconds']:.3f} | {one['mb']:.0f} |")
    what = (
        f"Forward and backward of each loss on one patch of {size} voxels, without a network: the "
        f"label of a phantom, random logits, keys of the section `loss` as by default. Median of "
        f"{runs} runs on one CPU thread; memory is the rise of the process's peak, logits included."
    )
    lines = ["## Losses: `just bench losses`", "", what, "", *rows, ""]
    return "\n".join([*lines, f"Machine: {page.machine(PACKAGES)}."])


def main(arguments: list[str]) -> int:
    """Measure every loss and print the outcome; or one of them, for `--part`."""
    prepare_environment()
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[128, 128, 32])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=Path, nargs="?", const=page.PAGE, help="the page to write")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    shape = (given.shape[0], given.shape[1], given.shape[2])
    if given.part:
        print(json.dumps(measure(given.part, shape, given.runs)))
        return 0
    from minivess.losses import LOSSES

    found = {}
    for name in LOSSES:
        command = [sys.executable, __file__, *arguments, "--part", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    body = section(found, shape, given.runs)
    print(body)
    if given.write is not None:
        page.write_section(given.write, "losses", body, page.command("losses", arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
