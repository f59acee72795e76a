"""One volume through this predictor, MONAI's sliding window and nnU-Net's predictor, on the CPU.

    just bench inference [--shape 512 512 64] [--filters 16 32 64] [--runs 5] [--write]

Same network and weights, window, overlap, one window per pass, no mirroring, one thread. The
network is trained for a moment on a phantom, so that the masks mean something; `--write` puts the
outcome into docs/reference/benchmarks.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import networks
import nnunet
import page
from sides import Run, add_options, alternate, child, medians, peak_gb, table, timed, verdict

from minivess.environment import choose_kernels, prepare_environment

TITLES = {
    "float32": "this predictor, float32",
    "bfloat16": "this predictor, profile fast (bfloat16)",
    "monai": "MONAI's `sliding_window_inference`",
    "nnunet": "nnU-Net's predictor",
}
MONAI_TARGET, NNUNET_TARGET = 1.5, 2.0
FILTERS = [16, 32, 64]
PACKAGES = ["torch", "monai", "nnunetv2", "numpy"]
IMAGE, WEIGHTS = "image.npy", "weights.safetensors"


def prepare(folder: Path, given: argparse.Namespace) -> None:
    """Write a volume, and the weights of a network trained on a part of another."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    from minivess.config.schema import LossConfig
    from minivess.losses import build_loss
    from minivess.models.weights import weights_of
    from minivess.seeding import generator, torch_seeded

    image, label = networks.phantoms(1, tuple(given.shape))[0]
    case = networks.prepared("case", image, label, networks.SPACING_UM)
    np.save(folder / IMAGE, case.image)
    with torch_seeded(0, "benchmark"):
        network = networks.adapter(given.filters).build()
    loss = build_loss("dice_ce", LossConfig())
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, fused=True)
    rng, size = generator(0, "benchmark"), np.minimum((64, 64, 16), image.shape)
    for _ in range(given.steps):
        first = [int(rng.integers(n - s + 1)) for n, s in zip(image.shape, size, strict=True)]
        box = tuple(slice(a, a + int(s)) for a, s in zip(first, size, strict=True))
        logits = network(torch.from_numpy(case.image[box])[None, None])
        value = loss(logits, torch.from_numpy(case.label[box])[None, None])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    save_file(weights_of(network), folder / WEIGHTS)


def predict(side: str, folder: Path, given: argparse.Namespace) -> tuple[Any, Run]:
    """Return the mask (x, y, z) of one side, and what it took."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    from minivess.config.schema import ComputeConfig
    from minivess.inference.device import prepare_torch
    from minivess.models.weights import load_weights

    if side in ("float32", "bfloat16"):
        prepare_torch(ComputeConfig(profile="fast", threads=given.threads))
    torch.set_num_threads(given.threads)
    weights, image = load_file(folder / WEIGHTS), np.load(folder / IMAGE, mmap_mode="r")
    if side == "nnunet":
        network, weights = networks.plain(given.filters, z_first=True), networks.turned(weights)
    elif side == "monai":
        network = networks.plain(given.filters)
    else:
        network = networks.adapter(given.filters).build()
    load_weights(network, weights, WEIGHTS)
    found: list[Any] = []
    work = _WORK[side](network.eval(), image, given)
    seconds, cpu = timed(lambda: found.append(work()))
    return found[0], Run(seconds, cpu, peak_gb())


def _ours(autocast: bool) -> Any:
    def side(network: Any, image: Any, given: argparse.Namespace) -> Any:
        import torch

        from minivess.inference.sliding_window import predict_probability

        dtype = torch.bfloat16 if autocast else None
        window = tuple(given.window)
        return lambda: predict_probability(network, image, window, given.overlap, 1, dtype) > 0.5

    return side


def _monai(network: Any, image: Any, given: argparse.Namespace) -> Any:
    import numpy as np
    import torch
    from monai.inferers.utils import sliding_window_inference

    def work() -> Any:
        with torch.inference_mode():
            found = sliding_window_inference(
                torch.from_numpy(np.array(image))[None, None],
                tuple(given.window),
                1,
                lambda batch: torch.softmax(network(batch), dim=1)[:, 1:],
                overlap=given.overlap,
                mode="gaussian",
            )
        return found[0, 0].numpy() > 0.5

    return work


def _nnunet(network: Any, image: Any, given: argparse.Namespace) -> Any:
    import numpy as np
    import torch

    predictor = nnunet.predictor(mirroring=False, overlap=given.overlap)
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=list(given.window)[::-1])
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=2)

    def work() -> Any:
        volume = torch.from_numpy(np.array(image.T, order="C"))[None]
        logits = predictor.predict_sliding_window_return_logits(volume)
        return (logits[1] > logits[0]).numpy().T

    return work


_WORK: dict[str, Any] = {
    "float32": _ours(autocast=False),
    "bfloat16": _ours(autocast=True),
    "monai": _monai,
    "nnunet": _nnunet,
}


def dice(one: Any, other: Any) -> float:
    """Return the Dice coefficient of two masks."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def section(
    given: argparse.Namespace, runs: dict[str, list[Run]], masks: dict[str, tuple[float, int]]
) -> str:
    """Return the outcome as a section of the page."""
    middle = medians(runs)
    shape, window = (" x ".join(map(str, values)) for values in (given.shape, given.window))
    what = (
        f"A volume of {shape} voxels in windows of {window} with overlap {given.overlap:g}, one "
        f"window per pass, without mirroring: MONAI's DynUNet with "
        f"{', '.join(map(str, given.filters))} filters, the same weights on all sides. "
        f"{given.threads} thread(s); {given.runs} runs of each side, in turn, each in its own "
        "process; imports are not counted. Times as long: of CPU seconds. Memory: of the process."
    )
    filters = "" if given.filters == FILTERS else f", {', '.join(map(str, given.filters))} filters"
    lines = [f"## Inference{filters}: `just bench inference`", "", what, ""]
    lines += [*table(runs, TITLES, "volume", "float32"), ""]
    lines += ["| against the mask of this predictor in float32 | Dice | voxels that differ |"]
    lines += ["|---|---|---|"]
    for side, (score, count) in masks.items():
        lines.append(f"| {TITLES[side]} | {score:.6f} | {count} |")
    lines.append("")
    for side, name, target in (
        ("monai", "MONAI", MONAI_TARGET),
        ("nnunet", "nnU-Net", NNUNET_TARGET),
    ):
        for own in ("float32", "bfloat16"):
            ratio = middle[side].cpu_seconds / middle[own].cpu_seconds
            lines.append(verdict(f"Faster than {name} in {own}", ratio, target))
    least = min(middle["monai"].peak_gb, middle["nnunet"].peak_gb)
    holds = "holds" if middle["float32"].peak_gb < least else "does not hold"
    lines.append(
        f"Peak memory {middle['float32'].peak_gb:.2f} GB (target: below both, {holds}). nnU-Net "
        "blends logits in half precision, the others probabilities: its mask differs by that."
    )
    return "\n".join([*lines, "", f"Machine: {page.machine(PACKAGES)}."])


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 64])
    parser.add_argument("--window", type=int, nargs=3, default=[128, 128, 16])
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--filters", type=int, nargs="+", default=FILTERS)
    parser.add_argument("--steps", type=int, default=60, help="steps of training of the network")
    parser.add_argument("--threads", type=int, default=1)
    add_options(parser, list(TITLES))
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Measure all sides and print the outcome; or be one part of that, for `--part`."""
    prepare_environment()
    choose_kernels("fast")
    given = parsed(arguments)
    if given.part == "prepare":
        prepare(given.folder, given)
        return 0
    import numpy as np

    if given.part:
        mask, run = predict(given.part, given.folder, given)
        np.save(given.folder / f"mask_{given.part}.npy", mask)
        print(json.dumps(dataclasses.asdict(run)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        child(Path(__file__), "prepare", folder, arguments)
        runs = alternate(Path(__file__), folder, arguments, list(TITLES), given.runs)
        masks = {side: np.load(folder / f"mask_{side}.npy") for side in TITLES}
    own = masks.pop("float32")
    differing = {side: (dice(own, mask), int((own ^ mask).sum())) for side, mask in masks.items()}
    body = section(given, runs, differing)
    print(body)
    if given.write is not None:
        name = "-".join(
            ["inference", *(map(str, given.filters) if given.filters != FILTERS else [])]
        )
        page.write_section(given.write, name, body, page.command("inference", arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
