"""Every benchmark in turn, with the options that the page's sections were made with.

    just bench [--write] [--only NAME ...] [--dry-run] [--mask MASK] [--vesselnn cases.csv]

What needs data that is not at hand is named and left out: `--mask` is a reference mask for the
metrics (a phantom without it), `--vesselnn` a table of the stacks of vesselNN, as
benchmarks/vesselnn.csv is in a copy of that data set. The timed ones want a machine that does
nothing else. One that fails does not keep the others from running.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from minivess.machine import gpus

VESSELNN = ("data.source=csv", "data.vessel_labels=[254,255]", "data.exclude=[noisy_sparse]")


@dataclass(frozen=True)
class Entry:
    """One benchmark with its options."""

    name: str
    options: tuple[str, ...] = ()
    missing: str = ""  # what it cannot be run without, and is not there

    def command(self, write: bool) -> list[str]:
        """The command behind `just bench`."""
        return [self.name, *self.options, *(["--write"] if write else [])]


def entries(given: argparse.Namespace, has_gpu: bool) -> list[Entry]:
    """Return what there is to run: the timed ones first, the long ones last."""
    mask = () if given.mask is None else ("--mask", str(given.mask))
    table = "a table of vesselNN's stacks (--vesselnn)" if given.vesselnn is None else ""
    stacks = (*VESSELNN, f"data.path={given.vesselnn or 'CSV'}", "--name", "vesselNN")
    return [
        Entry("metrics", mask),
        Entry("losses"),
        Entry("patches"),
        Entry("training"),
        Entry("training_gpu", missing="" if has_gpu else "a GPU"),
        Entry("inference"),
        Entry("inference", ("--filters", "8", "16", "32")),
        Entry("service"),
        Entry("coverage"),
        Entry("comparison"),
        Entry("comparison", stacks, table),
        Entry("comparison", (*stacks, "--selection", "0"), table),
        Entry("comparison", (*stacks, "--selection", "0", "--recipe", "sgd"), table),
    ]


def run(entry: Entry, write: bool) -> tuple[int, float]:
    """Run one benchmark; its exit status and minutes."""
    begin = time.monotonic()
    command = [os.environ.get("JUST", "just"), "bench", *entry.command(write)]
    return subprocess.run(command, check=False).returncode, (time.monotonic() - begin) / 60


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options.

    Raises:
        SystemExit: a benchmark that is not there, or a file.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--write", action="store_true", help="write each section of the page")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these alone")
    parser.add_argument("--dry-run", action="store_true", help="print the commands alone")
    parser.add_argument("--mask", type=Path, help="the metrics' reference, NIfTI or .npy")
    parser.add_argument("--vesselnn", type=Path, metavar="CSV", help="cases of vesselNN")
    given = parser.parse_args(arguments)
    names = dict.fromkeys(entry.name for entry in entries(given, has_gpu=True))
    if unknown := [name for name in given.only or () if name not in names]:
        parser.error(f"there is no {', '.join(unknown)}: {', '.join(names)}")
    for file in (given.mask, given.vesselnn):
        if file is not None and not file.is_file():
            parser.error(f"there is no file {file}")
    return given


def main(arguments: list[str]) -> int:
    """Run them in turn; 1 where one of them failed."""
    given = parsed(arguments)
    chosen = [
        entry
        for entry in entries(given, bool(gpus()))
        if given.only is None or entry.name in given.only
    ]
    left_out = [
        f"left out, needs {entry.missing}: {_line(entry, given)}"
        for entry in chosen
        if entry.missing
    ]
    possible = [entry for entry in chosen if not entry.missing]
    if given.dry_run:
        print("\n".join([*(_line(entry, given) for entry in possible), *left_out]))
        return 0
    ended: list[str] = []
    failed = 0
    for number, entry in enumerate(possible, 1):
        print(f"\n[{number} of {len(possible)}] {_line(entry, given)}", flush=True)
        status, minutes = run(entry, given.write)
        failed += status != 0
        how = "done" if status == 0 else f"FAILED with status {status}"
        ended.append(f"{how}, {minutes:.1f} min: {_line(entry, given)}")
    print("\n".join(["", *ended, *left_out]))
    return 1 if failed else 0


def _line(entry: Entry, given: argparse.Namespace) -> str:
    return shlex.join(["just", "bench", *entry.command(given.write)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
