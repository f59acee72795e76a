"""The service under load: right answers, memory, and what it adds to calling the network directly.

    just bench service [--mixed 200] [--many 1000] [--write]

1. Mixed requests, a third of them bad, from 8 clients at once: every answer must be the right mask,
   the right refusal, or 429 with Retry-After, after which the client comes back.
2. Many requests, one after the other: the memory of the service after them against that after the
   first hundred.
3. A volume of 256 x 256 x 32 voxels: the time of a request against that of the same calls in this
   process (reading, segmentation, writing), in turn; and against the segmentation alone.

Ends with status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil
from page import PAGE, command, machine, write_section

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from running_service import Running, running_service
from small_bundle import make_bundle, vessel_image

from minivess.config.load import preset_values
from minivess.config.schema import ModelConfig
from minivess.data.geometry import Geometry
from minivess.data.volume import nifti_bytes
from minivess.deploy.bundle import read_bundle
from minivess.deploy.onnx import export_network
from minivess.deploy.segment import open_session, segment
from minivess.deploy.upload import Limits, read_upload
from minivess.inference.windows import window_for
from minivess.models import build_adapter
from minivess.seeding import torch_seeded

CLIENTS = 8
SMALL, LARGE = (48, 48, 12), (256, 256, 32)
WINDOW = (64, 64, 16)
AFFINE = np.diag([-1.0, 1.0, 5.0, 1.0])
MOST_GROWTH, MOST_OVERHEAD = 0.10, 0.10
LIMITS = Limits(max_bytes=64 << 20, max_voxels=1 << 24)


@dataclass(frozen=True)
class Bad:
    """An upload that must be refused, and how."""

    name: str
    data: bytes
    status: int


def file_of(shape: tuple[int, int, int], packed: bool = True) -> bytes:
    """Return a volume as a file."""
    return nifti_bytes(vessel_image(shape), Geometry(shape, AFFINE), packed)


def bad_uploads() -> list[Bad]:
    """Return one upload of each kind that a service meets."""
    good = file_of(SMALL)
    plain = gzip.decompress(good)
    lying = plain[:42] + b"\xff\x7f" * 3 + plain[48:]
    nan = nifti_bytes(np.full(SMALL, np.nan, np.float32), Geometry(SMALL, AFFINE), True)
    return [
        Bad("a.nii.gz", good[: len(good) // 2], 422),
        Bad("a.nii.gz", gzip.compress(plain + bytes(100 << 20), 1), 422),
        Bad("a.nii.gz", gzip.compress(lying), 413),
        Bad("a.nii.gz", nan, 422),
        Bad("../a.nii.gz", good, 400),
        Bad("a.png", good, 415),
        Bad("a.tif", good, 415),
    ]


def post(service: Running, name: str, data: bytes) -> httpx.Response:
    """Send a volume."""
    files = {"volume": (name, data)}
    return httpx.post(f"{service.url}/segment", files=files, timeout=120)


def demo_bundle(folder: Path) -> Path:
    """Write a bundle with the demo's network, its weights drawn at random; return its folder."""
    adapter = build_adapter(ModelConfig(**preset_values("model", "dynunet_small")), (1.0, 1.0, 5.0))
    with torch_seeded(0, "service-benchmark"):
        network = adapter.build()
    divisor = adapter.patch_divisor()
    window = window_for(WINDOW, divisor)
    model = export_network(network, window, adapter.any_window())
    return make_bundle(
        folder, model, window=window, divisor=divisor, any_window=adapter.any_window()
    ).folder


@contextmanager
def direct(bundle: Path, data: bytes, threads: int) -> Iterator[Direct]:
    """The same work without the service, its network opened once."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "v.nii"
        if data[:2] == b"\x1f\x8b":
            path = path.with_suffix(".nii.gz")
        path.write_bytes(data)
        yield Direct(bundle, path, threads)


class Direct:
    """Reads, segments and writes a file in this process; notes the seconds of the network."""

    def __init__(self, bundle: Path, path: Path, threads: int) -> None:
        self.bundle, self.path = read_bundle(bundle), path
        self.session = open_session(self.bundle, threads)
        self.network_s = 0.0

    def __call__(self) -> bytes:
        """Return the mask as a file."""
        volume = read_upload(self.path, LIMITS)
        start = time.perf_counter()
        found = segment(self.session, self.bundle, volume)
        self.network_s = time.perf_counter() - start
        return nifti_bytes(found.mask, found.geometry, packed=True)


def mixed(service: Running, expected: bytes, n: int) -> Counter[str]:
    """Count the outcomes of n requests, a third of them bad, from several clients."""
    good, bad = file_of(SMALL), bad_uploads()

    def visit(index: int) -> list[str]:
        outcomes: list[str] = []
        while not outcomes or outcomes[-1] == "busy":
            one = bad[index // 3 % len(bad)] if index % 3 == 0 else Bad("v.nii.gz", good, 200)
            found = post(service, one.name, one.data)
            if found.status_code == 429 and found.headers["retry-after"].isdigit():
                outcomes.append("busy")
                time.sleep(0.2)
            elif found.status_code == one.status:
                right = one.status != 200 or found.content == expected
                kind = "mask" if one.status == 200 else "refused"
                outcomes.append(kind if right else "wrong mask")
            else:
                outcomes.append(f"status {found.status_code}, not {one.status}")
        return outcomes

    with ThreadPoolExecutor(CLIENTS) as clients:
        return Counter(one for outcomes in clients.map(visit, range(n)) for one in outcomes)


def memory_mb(service: Running) -> float:
    """Return the resident memory of the service's worker: its largest process."""
    root = psutil.Process(service.process.pid)
    sizes = [one.memory_info().rss for one in (root, *root.children(recursive=True))]
    return max(sizes) / 1e6


def many(service: Running, expected: bytes, n: int) -> tuple[float, float]:
    """Return the memory of the service after a tenth of n requests, and after all, in MB."""
    good, bad = file_of(SMALL), bad_uploads()
    early = 0.0
    for index in range(n):
        if index % 10 == 9:
            one = bad[index // 10 % len(bad)]
            assert post(service, one.name, one.data).status_code == one.status
        else:
            assert post(service, "v.nii.gz", good).content == expected
        if index + 1 == n // 10:
            early = memory_mb(service)
    return early, memory_mb(service)


def overhead(
    service: Running, bundle: Path, runs: int, threads: int
) -> tuple[list[float], list[float], list[float]]:
    """Return seconds of requests, of the same calls here, and of the segmentation alone."""
    data = file_of(LARGE, packed=False)
    asked, called, network = [], [], []
    with direct(bundle, data, threads) as call:
        assert post(service, "v.nii", data).content == call()
        for _ in range(runs):
            start = time.perf_counter()
            assert post(service, "v.nii", data).status_code == 200
            asked.append(time.perf_counter() - start)
            start = time.perf_counter()
            call()
            called.append(time.perf_counter() - start)
            network.append(call.network_s)
    return asked, called, network


def section(
    outcomes: Counter[str],
    memory: tuple[float, float],
    seconds: tuple[list[float], list[float], list[float]],
    n_many: int,
) -> tuple[str, bool]:
    """Return the section of the page, and whether all targets were met."""
    wrong = {name: n for name, n in outcomes.items() if name not in ("mask", "refused", "busy")}
    growth = memory[1] / memory[0] - 1
    asked, called, network = (statistics.median(times) for times in seconds)
    over_calls, over_network = asked / called - 1, asked / network - 1
    met = not wrong and growth < MOST_GROWTH and over_calls < MOST_OVERHEAD
    text = f"""## Service: `just bench service`

A real service on loopback, one segmentation at a time, one thread each.

| | found | target |
|---|---|---|
| {outcomes["mask"] + outcomes["refused"]} requests from {CLIENTS} clients, a third of them bad | \
{outcomes["mask"]} masks, {outcomes["refused"]} refusals, {sum(wrong.values())} wrong answers | \
no wrong answer, no crash |
| memory after {n_many} requests, a tenth of them bad | {memory[1]:.0f} MB, {growth:+.1%} of the \
{memory[0]:.0f} MB after {n_many // 10} | under +{MOST_GROWTH:.0%} |
| 256 x 256 x 32 voxels, the demo's network: a request | {asked:.2f} s, {over_calls:+.1%} of the \
{called:.2f} s of the same calls in one process | under +{MOST_OVERHEAD:.0%} |
| the same against the network's session alone, without reading and writing files | \
{over_network:+.1%} of {network:.2f} s | under +{MOST_OVERHEAD:.0%} |

The {outcomes["busy"]} answers 429 with `Retry-After` are not counted: the client came back. \
Medians of {len(seconds[0])} runs in turn. Bad uploads: truncated, a gzip bomb of 100 MB, \
dimensions of 32767, NaN, a path as name, other formats.

Machine: {machine(["bentoml", "onnxruntime", "starlette", "numpy"])}.
"""
    return text, met and over_network < MOST_OVERHEAD


def main(arguments: list[str]) -> int:
    """Run all three and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--mixed", type=int, default=200)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(arguments)
    with TemporaryDirectory() as name:
        folder = Path(name)
        small = make_bundle(folder / "small").folder
        with direct(small, file_of(SMALL), 1) as call:
            expected = call()
        options = {"threads": 1, "max_queue": 4, "max_upload_mb": 64}
        with running_service(small, folder / "first", **options) as service:
            outcomes = mixed(service, expected, given.mixed)
            memory = many(service, expected, given.many)
        real = demo_bundle(folder / "real")
        with running_service(real, folder / "second", **options) as service:
            seconds = overhead(service, real, given.runs, 1)
    text, met = section(outcomes, memory, seconds, given.many)
    print(text)
    if given.write:
        write_section(PAGE, "service", text, command("service", arguments))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
