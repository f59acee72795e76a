"""Random patches per second: this project's preprocessed volumes against MONAI's CacheDataset.

    just bench patches [--cases 6] [--shape 256 256 32] [--patches 400] [--runs 5] [--write]

Both sides give image and label of as many patches, half of them on a vessel, in one process on one
thread, without augmentation. This project reads them by memory map from what preprocessing wrote;
MONAI's CacheDataset reads .nii.gz into memory first. Each side runs on one and on two times the
cases, to see whether its memory grows. `--write` puts the outcome into
docs/reference/benchmarks.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import networks
import page
from sides import Run, add_options, alternate, child, medians, timed, verdict

from minivess.environment import prepare_environment

TITLES = {
    "ours": "preprocessed volumes, memory map",
    "ours_twice": "the same, twice the cases",
    "cache": "MONAI `CacheDataset`, from .nii.gz",
    "cache_twice": "the same, twice the cases",
}
TARGET = 5.0
PACKAGES = ["monai", "torch", "numpy", "nibabel"]


def prepare(folder: Path, given: argparse.Namespace) -> None:
    """Write each case as .nii.gz, and as preprocessing leaves it."""
    import nibabel
    import numpy as np

    from minivess.data.preprocess import FOREGROUND, IMAGE, LABEL

    affine = np.diag([*networks.SPACING_UM, 1.0])
    for number, (image, label) in enumerate(networks.phantoms(2 * given.cases, tuple(given.shape))):
        case = networks.prepared(str(number), image, label, networks.SPACING_UM)
        own = folder / f"case{number}"
        own.mkdir()
        arrays = {IMAGE: case.image, LABEL: case.label, FOREGROUND: case.foreground}
        for name, array in arrays.items():
            np.save(own / name, array)
        nibabel.save(nibabel.Nifti1Image(image, affine), folder / f"image{number}.nii.gz")
        nibabel.save(
            nibabel.Nifti1Image(label.astype(np.uint8), affine), folder / f"label{number}.nii.gz"
        )


def _own_kb() -> int:
    """Return the memory of this process that is not the page cache's, in kB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0])


def our_patches(folder: Path, count: int, given: argparse.Namespace) -> Any:
    """Return what gives all patches of this project; they are summed, so that they are read."""
    import numpy as np

    from minivess.config.schema import PatchConfig
    from minivess.data.geometry import Geometry, diagonal_affine
    from minivess.data.patches import locate_patch, read_patch
    from minivess.data.preprocess import FOREGROUND, IMAGE, LABEL, PreparedCase

    size = tuple(given.patch)
    config = PatchConfig(patch_size=size)

    def work() -> float:
        cases, total = [], 0.0
        geometry = Geometry(tuple(given.shape), diagonal_affine(networks.SPACING_UM))
        for number in range(count):
            arrays = [
                np.load(folder / f"case{number}" / name, mmap_mode="r")
                for name in (IMAGE, LABEL, FOREGROUND)
            ]
            cases.append(PreparedCase(str(number), str(number), *arrays, geometry))
        for index in range(given.patches):
            place = locate_patch(cases, config, (0, 0, 1), index)
            image, label = read_patch(cases[place.case], place, size, (0, 0, 0))
            total += float(image[0, 0, 0]) + float(label.sum())
        return total

    return work


def monai_patches(folder: Path, count: int, given: argparse.Namespace) -> Any:
    """Return what gives as many patches of a CacheDataset, reading into the cache included."""
    from monai import transforms
    from monai.data.dataset import CacheDataset

    keys, size = ["image", "label"], tuple(given.patch)

    def work() -> float:
        steps = transforms.Compose(
            [
                transforms.LoadImaged(keys),
                transforms.EnsureChannelFirstd(keys),
                transforms.NormalizeIntensityd("image"),
                transforms.RandCropByPosNegLabeld(
                    keys, label_key="label", spatial_size=size, pos=1, neg=1, num_samples=1
                ),
            ]
        )
        files = [
            {key: str(folder / f"{key}{number}.nii.gz") for key in keys} for number in range(count)
        ]
        cached, total = CacheDataset(files, steps, num_workers=0, progress=False), 0.0
        for index in range(given.patches):
            patch = cached[index % count][0]
            total += float(patch["image"][0, 0, 0, 0]) + float(patch["label"].sum())
        return total

    return work


def measure(side: str, folder: Path, given: argparse.Namespace) -> Run:
    """Run one side."""
    import torch

    torch.set_num_threads(1)
    count = given.cases * (2 if side.endswith("twice") else 1)
    make = our_patches if side.startswith("ours") else monai_patches
    before = _own_kb()
    work = make(folder, count, given)
    seconds, cpu = timed(work, given.patches)
    return Run(seconds, cpu, (_own_kb() - before) * 1024 / 1e9)


def section(given: argparse.Namespace, runs: dict[str, list[Run]]) -> str:
    """Return the outcome as a section of the page."""
    middle = medians(runs)
    patch, shape = (" x ".join(map(str, values)) for values in (given.patch, given.shape))
    what = (
        f"{given.patches} patches of {patch} voxels, image and label, from {given.cases} (and "
        f"{2 * given.cases}) cases of {shape}: opening the files, and for MONAI reading them into "
        f"the cache, included. One process, one thread, no augmentation; {given.runs} runs of each "
        "side, in turn. Memory: what the process has of its own more than before; mapped files are "
        "in the kernel's page cache, which gives it back when it is needed."
    )
    lines = ["## Patches: `just bench patches`", "", what, ""]
    lines += [
        "| | patches per s | range | CPU ms per patch | own memory, GB |",
        "|---|---|---|---|---|",
    ]
    for name, many in runs.items():
        rates = [1 / run.seconds for run in many]
        lines.append(
            f"| {TITLES[name]} | {statistics.median(rates):.0f} "
            f"| {min(rates):.0f} to {max(rates):.0f} "
            f"| {1e3 * middle[name].cpu_seconds:.3f} | {middle[name].peak_gb:.3f} |"
        )
    ratio = middle["cache"].cpu_seconds / middle["ours"].cpu_seconds
    growth = middle["ours_twice"].peak_gb - middle["ours"].peak_gb
    theirs = middle["cache_twice"].peak_gb - middle["cache"].peak_gb
    grown = (
        f"With twice the cases {1e3 * growth:.0f} MB more of own memory "
        f"(MONAI: {1e3 * theirs:.0f} MB)."
    )
    lines += [
        "",
        verdict("Faster, in CPU seconds", ratio, TARGET),
        grown,
        "",
        f"Machine: {page.machine(PACKAGES)}.",
    ]
    return "\n".join(lines)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[256, 256, 32])
    parser.add_argument("--patch", type=int, nargs=3, default=[64, 64, 16])
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--patches", type=int, default=400)
    add_options(parser, list(TITLES))
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Measure all sides and print the outcome; or be one part of that, for `--part`."""
    prepare_environment()
    given = parsed(arguments)
    if given.part == "prepare":
        prepare(given.folder, given)
        return 0
    if given.part:
        print(json.dumps(dataclasses.asdict(measure(given.part, given.folder, given))))
        return 0
    with tempfile.TemporaryDirectory() as name:
        child(Path(__file__), "prepare", Path(name), arguments)
        runs = alternate(Path(__file__), Path(name), arguments, list(TITLES), given.runs)
    body = section(given, runs)
    print(body)
    if given.write is not None:
        page.write_section(given.write, "patches", body, page.command("patches", arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
