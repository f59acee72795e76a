"""The committed digests of an experiment, one file per kind of machine."""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from minivess import output, paths
from minivess.errors import MinivessError
from minivess.reproducibility.compare import compare_digests
from minivess.reproducibility.digests import as_text, read_digests

GOLDEN = Path("tests/golden")
GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Golden:
    """What the committed digests say about a run on this machine."""

    machine: str
    known: bool
    equal_to: tuple[str, ...]
    different_from: tuple[str, ...]
    recorded: Path | None = None

    def __str__(self) -> str:
        if self.known:
            return f"the same bytes as the committed ones of {self.machine}"
        parts = [f"{self.machine} has no committed digests so far"]
        if self.equal_to:
            parts.append(f"the same bytes as {', '.join(self.equal_to)}")
        if self.different_from:
            parts.append(f"other bytes than {', '.join(self.different_from)}")
        return "; ".join([*parts, f"recorded in {self.recorded}, please commit it"])


def machine_kind(cpuinfo: Path = Path("/proc/cpuinfo"), gpus: Path = GPUS) -> str:
    """What may decide bytes: vendor, family and model of the CPU, the C library, the GPU if any.

    Args:
        cpuinfo: the kernel's description of the CPU.
        gpus: the NVIDIA driver's folder with one entry per GPU.
    """
    words = [platform.machine()]
    if cpuinfo.is_file():
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
        for key in ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part"):
            match = re.search(rf"^{key}\s*: (.+)$", text, re.MULTILINE)
            words += [match[1].strip()] if match else []
    words.append("".join(platform.libc_ver()))
    for card in sorted(gpus.glob("*/information"))[:1]:
        match = re.search(r"^Model:\s*(.+)$", card.read_text(encoding="utf-8"), re.MULTILINE)
        words += [match[1].strip()] if match else []
    return re.sub(r"[^A-Za-z0-9.-]+", "_", "-".join(words))


def check_golden(root: Path, folder: Path, machine: str) -> Golden:
    """Compare the digests of an experiment with the committed ones; record a new kind of machine.

    Args:
        root: results folder of the experiment.
        folder: the experiment's folder of committed digests.
        machine: kind of this machine.

    Raises:
        MinivessError: MV-STATE-006 other bytes than committed for this kind of machine.
    """
    found = read_digests(paths.digests(root))
    committed = {path.stem: read_digests(path) for path in sorted(folder.glob("*.sha256"))}
    comparisons = {kind: compare_digests(digests, found) for kind, digests in committed.items()}
    if machine in committed:
        compared = comparisons[machine]
        if not compared.same:
            first = (*compared.missing, *compared.differing, *compared.additional)[0]
            raise MinivessError(
                "MV-STATE-006",
                what="other bytes than the committed ones of this kind of machine",
                where=f"{first}, the first file of the DAG that differs",
                found=str(compared),
                expected=str(folder / f"{machine}.sha256"),
                fix="if a change of the code is meant to change results, record the new ones: "
                "just golden",
            )
        return Golden(machine, True, (machine,), ())
    return Golden(
        machine,
        False,
        tuple(kind for kind, compared in comparisons.items() if compared.same),
        tuple(kind for kind, compared in comparisons.items() if not compared.same),
        record_golden(root, folder, machine),
    )


def record_golden(root: Path, folder: Path, machine: str) -> Path:
    """Write the digests of an experiment as those of this kind of machine; the file."""
    path = folder / f"{machine}.sha256"
    output.write_text(as_text(read_digests(paths.digests(root))), path)
    return path


def forget_golden(folder: Path) -> None:
    """Remove the digests of all kinds of machines: a change of the code made them untrue."""
    shutil.rmtree(folder, ignore_errors=True)
