"""The panel of metrics against calls of the usual libraries, on a volume of MiniVess's size.

    just bench metrics [--mask FILE] [--runs 5] [--shape 512 512 106] [--write]

The reference is a mask (NIfTI or .npy), or a phantom's; the prediction is the reference with known
errors. Each side runs in processes of its own, in turn, on one thread: the median time, the peak of
the memory, and whether the values are equal. `--write` puts the outcome into
docs/reference/benchmarks.md. Ends with status 1 where values differ that have one definition.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import page

from minivess.environment import prepare_environment

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from usual_libraries import Pair

SIDES = ("panel", "libraries")
SPACING_UM = (0.994, 0.994, 2.0)
TOLERANCE_UM, JUNCTION_TOLERANCE_UM = 2.0, 5.0
RELATIVE = 1e-6
TIMES_FASTER, PEAK_GB = 4.0, 2.5
PACKAGES = ["numpy", "scipy", "scikit-image", "monai", "torch", "networkx", "gudhi"]

ERASED = "scikit-image erases some free-standing components; the panel gives each one voxel back"
TIES = "a voxel equally near to two components belongs to one of them, which one is not defined"
RANKS = "equal probabilities are shared between the bins in proportion, not by their order"
DIFFERENT = {
    "cldice": ERASED,
    "tprec": ERASED,
    "tsens": ERASED,
    "radius_um": ERASED,
    "radius_error_um": ERASED,
    "component_dice": TIES,
    "ace": RANKS,
}


@dataclass(frozen=True)
class Measured:
    """What one process of a side found and used."""

    values: dict[str, float]
    seconds: float
    peak_gb: float
    parts: dict[str, float]


def perturbed(reference: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.bool_]:
    """Return a reference with known errors: thinner, moved, branches lost, blobs that are none."""
    import numpy as np
    from scipy import ndimage

    from minivess import seeding

    rng = seeding.generator(seed, "bench-metrics")
    shape = np.array(reference.shape)
    third = int(shape[0]) // 3
    mask = reference.copy()
    mask[:third] = ndimage.binary_erosion(reference[:third], border_value=1)
    mask[-third:] = np.roll(reference[-third:], 1, axis=1)
    size = np.maximum(shape // 10, 2)
    for corner in rng.integers(0, shape - size, (12, 3)):
        mask[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))] = False
    steps = np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij")
    blob = sum(step**2 for step in steps) <= 9
    for corner in rng.integers(0, shape - 7, (max(2, int(shape.prod()) // 700_000), 3)):
        mask[tuple(slice(a, a + 7) for a in corner)] |= blob
    return mask


def prepare(folder: Path, given: argparse.Namespace) -> None:
    """Write the pair of masks and the probability that both sides read."""
    import numpy as np
    from scipy import ndimage

    spacing = SPACING_UM
    if given.mask is None:
        from minivess.config.schema import PhantomConfig
        from minivess.data.phantom import make_phantom

        config = PhantomConfig(
            phantom_shape=tuple(given.shape), phantom_spacing_um=spacing, n_trees=given.trees
        )
        label = make_phantom(config, 0).label
    elif given.mask.suffix == ".npy":
        label = np.load(given.mask)
    else:
        import nibabel

        image = nibabel.load(given.mask)
        label = np.asanyarray(image.dataobj)
        spacing = tuple(round(float(um), 6) for um in image.header.get_zooms()[:3])
    reference = np.ascontiguousarray(label > 0)
    prediction = perturbed(reference, given.seed)
    probability = ndimage.gaussian_filter(prediction.astype(np.float32), 0.6)
    np.save(folder / "reference.npy", reference)
    np.save(folder / "prediction.npy", prediction)
    np.save(folder / "probability.npy", np.clip(probability, 0, 1))
    about = {"shape": reference.shape, "spacing_um": spacing, "vessel": float(reference.mean())}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _panel(*pair: object) -> dict[str, float]:
    from minivess.metrics.evaluate import evaluate_case

    return {value.metric: value.value for value in evaluate_case(*pair)}  # type: ignore[arg-type]


def _libraries(pair: Pair) -> tuple[dict[str, float], dict[str, float]]:
    from usual_libraries import evaluate

    return evaluate(pair)


def measure(folder: Path, side: str) -> Measured:
    """Compute all metrics in this process, once imports and a small case are done with."""
    import numpy as np

    names = ("prediction", "reference", "probability")
    arrays = [np.load(folder / f"{name}.npy") for name in names]
    spacing = tuple(json.loads((folder / "about.json").read_text(encoding="utf-8"))["spacing_um"])
    small = np.zeros((12, 9, 9), dtype=bool)
    small[1:11, 3:6, 3:6] = True
    cases = [(small, small, small.astype(np.float32)), tuple(arrays)]
    for case in cases:
        full = (*case, spacing, TOLERANCE_UM, JUNCTION_TOLERANCE_UM)
        if side == "libraries":
            from usual_libraries import Pair

            pair = Pair(*full)
            start = time.perf_counter()
            values, parts = _libraries(pair)
        else:
            start = time.perf_counter()
            values, parts = _panel(*full), {}
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return Measured(values, seconds, peak, parts)


def beside(folder: Path) -> list[str]:
    """Time packages of other definitions on the pair; a line of the page for each."""
    import numpy as np
    import other_definitions

    prediction, reference = (np.load(folder / f"{n}.npy") for n in ("prediction", "reference"))
    spacing = tuple(json.loads((folder / "about.json").read_text(encoding="utf-8"))["spacing_um"])
    return [
        *other_definitions.surfaces(prediction, reference, spacing, TOLERANCE_UM),
        *other_definitions.topology(reference),
    ]


def relative_difference(one: float, other: float) -> float:
    """Return the difference of two numbers over the larger of them, 0 where they are equal."""
    return 0.0 if one == other else abs(one - other) / max(abs(one), abs(other))


def _times(runs: dict[str, list[Measured]]) -> list[str]:
    names = {"panel": "the panel, `evaluate_case`", "libraries": "usual libraries"}
    rows = ["| | median, s | range, s | peak memory, GB |", "|---|---|---|---|"]
    for side, many in runs.items():
        seconds = [one.seconds for one in many]
        rows.append(
            f"| {names[side]} | {statistics.median(seconds):.1f} "
            f"| {min(seconds):.1f} to {max(seconds):.1f} "
            f"| {max(one.peak_gb for one in many):.2f} |"
        )
    rows += ["", "| of the libraries' time | median, s |", "|---|---|"]
    for name in runs["libraries"][0].parts:
        median = statistics.median(one.parts[name] for one in runs["libraries"])
        rows.append(f"| {name} | {median:.1f} |")
    return rows


def _different(panel: dict[str, float], libraries: dict[str, float]) -> list[str]:
    lines = ["Not compared, because the definitions differ; panel and libraries found", ""]
    for why in dict.fromkeys(DIFFERENT.values()):
        found = [
            f"`{name}` {panel[name]:.6g} and {libraries[name]:.6g}"
            for name, reason in DIFFERENT.items()
            if reason == why
        ]
        lines.append(f"- {', '.join(found)}: {why}.")
    return lines


def section(runs: dict[str, list[Measured]], about: dict[str, Any], source: str) -> str:
    """Return the outcome as a section of the page."""
    panel, libraries = (runs[side][0].values for side in SIDES)
    differences = compare(panel, libraries)
    shared = [value for name, value in differences.items() if name not in DIFFERENT]
    equal = sum(value <= RELATIVE for value in shared)
    ratio, peak = outcome(runs)
    shape, spacing = (" x ".join(map(str, about[name])) for name in ("shape", "spacing_um"))
    what = (
        f"All {len(differences)} metrics of a pair of {shape} voxels of {spacing} µm ({source}, "
        f"{about['vessel']:.1%} "
        "vessel; the prediction is the reference thinned, moved, with branches removed and blobs "
        "added). The libraries are called one after the other, each on the masks. Imports and "
        f"reading are not counted. One thread; {len(runs['panel'])} runs of each side, in turn, "
        "each in its own process."
    )
    verdict = (
        f"The panel is {ratio:.1f} times faster (target: at least {TIMES_FASTER:g}, "
        f"{_verdict(ratio >= TIMES_FASTER)}) and peaks at {peak:.2f} GB (target: under "
        f"{PEAK_GB:g} GB, {_verdict(peak < PEAK_GB)}). {equal} of the {len(shared)} metrics that "
        f"have one definition are equal to {RELATIVE:g}; the largest relative difference is "
        f"{max(shared):.1e}."
    )
    beside = ["Timed beside, once each, and in no number above:", "", *about["beside"]]
    lines = ["## Metrics: `just bench metrics`", "", what, "", *_times(runs), "", verdict, ""]
    lines += [*_different(panel, libraries), "", *beside, ""]
    return "\n".join([*lines, f"Machine: {page.machine(PACKAGES)}."])


def _verdict(holds: bool) -> str:
    return "holds" if holds else "does not hold"


def compare(panel: dict[str, float], libraries: dict[str, float]) -> dict[str, float]:
    """Return the relative difference of each metric.

    Raises:
        ValueError: a side lacks metrics.
    """
    if panel.keys() != libraries.keys():
        raise ValueError(f"one side lacks {sorted(panel.keys() ^ libraries.keys())}")
    return {name: relative_difference(value, libraries[name]) for name, value in panel.items()}


def differing_metrics(panel: dict[str, float], libraries: dict[str, float]) -> list[str]:
    """Return the metrics with one definition whose values are not equal."""
    differences = compare(panel, libraries)
    return [n for n, value in differences.items() if value > RELATIVE and n not in DIFFERENT]


def outcome(runs: dict[str, list[Measured]]) -> tuple[float, float]:
    """Return how many times faster the panel is, and its peak of memory in GB."""
    medians = {side: statistics.median(one.seconds for one in many) for side, many in runs.items()}
    return medians["libraries"] / medians["panel"], max(one.peak_gb for one in runs["panel"])


def _child(folder: Path, part: str, arguments: list[str]) -> str:
    # A process starts with the peak of memory of the one that started it: this one stays small, so
    # it makes no volume and does not import the libraries.
    command = [sys.executable, __file__, *arguments, "--part", part, "--folder", str(folder)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def run_all(arguments: list[str], n_runs: int) -> tuple[dict[str, list[Measured]], dict[str, Any]]:
    """Return what each side measured, and what the pair is."""
    runs: dict[str, list[Measured]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _child(folder, "prepare", arguments)
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        about["beside"] = json.loads(_child(folder, "beside", arguments).splitlines()[-1])
        for number in range(n_runs):
            for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                found = Measured(**json.loads(_child(folder, side, arguments).splitlines()[-1]))
                runs[side].append(found)
                print(f"run {number + 1}, {side}: {found.seconds:.1f} s, {found.peak_gb:.2f} GB")
                sys.stdout.flush()
    return runs, about


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--mask", type=Path, help="the reference, NIfTI or .npy")
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 106])
    parser.add_argument("--trees", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, nargs="?", const=page.PAGE, help="the page to write")
    parser.add_argument("--part", choices=["prepare", "beside", *SIDES], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Measure both sides and print the outcome; or be one part of that, for `--part`."""
    prepare_environment()
    given = parsed(arguments)
    if given.part == "prepare":
        prepare(given.folder, given)
        return 0
    if given.part == "beside":
        print(json.dumps(beside(given.folder)))
        return 0
    if given.part:
        print(json.dumps(vars(measure(given.folder, given.part))))
        return 0
    runs, about = run_all(arguments, given.runs)
    body = section(runs, about, "a phantom" if given.mask is None else f"`{given.mask.name}`")
    print(body)
    if given.write is not None:
        page.write_section(given.write, "metrics", body, page.command("metrics", arguments))
    panel, libraries = (runs[side][0].values for side in SIDES)
    differing = differing_metrics(panel, libraries)
    for name in differing:
        print(
            f"DIFFERS: {name}: {panel[name]!r} of the panel, {libraries[name]!r} of the libraries"
        )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
