"""Whether flake.nix names every library that a wheel of uv.lock expects from outside.

Nix's autoPatchelf stops at a library that it finds neither in the wheel itself nor among what
flake.nix gives it. Called with the path of flake.nix; needs `readelf` and the installed wheels.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from importlib import metadata
from pathlib import Path

# glibc and the dynamic loader: every package has them.
LIBC = re.compile(r"(lib(c|m|dl|rt|nsl|util|pthread|resolv)|ld-linux-.*)\.so\.\d+$")
# What uv2nix gives every manylinux wheel (of the list, what wheels of ours need).
MANYLINUX = {"libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"}
MACHINE = {"x86_64": 0x3E, "aarch64": 0xB7}


def elf_files(distribution: metadata.Distribution) -> list[Path]:
    """Programs and libraries of a distribution for this machine."""
    import platform

    found = []
    for entry in distribution.files or []:
        path = Path(str(distribution.locate_file(entry)))
        if path.suffix in {".py", ".pyi", ".h", ".hpp", ".txt", ".json"} or not path.is_file():
            continue
        with path.open("rb") as handle:
            head = handle.read(20)
        if head[:4] == b"\x7fELF" and head[18] == MACHINE[platform.machine()]:
            found.append(path)
    return found


def needed(path: Path) -> set[str]:
    """Libraries that a file asks the dynamic loader for."""
    done = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True)
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", done.stdout))


def expected_from_outside() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Libraries that each distribution lacks, and the distributions that have each library."""
    lacking, owners = {}, defaultdict(set)
    for distribution in metadata.distributions():
        files = elf_files(distribution)
        if not files:
            continue
        name = distribution.metadata["Name"].lower().replace("_", "-")
        own = {path.name for path in files}
        for library in own:
            owners[library].add(name)
        manylinux = "manylinux" in (distribution.read_text("WHEEL") or "")
        wanted = set().union(*(needed(path) for path in files))
        given = own | (MANYLINUX if manylinux else set())
        missing = {library for library in wanted - given if not LIBC.match(library)}
        if missing:
            lacking[name] = missing
    return lacking, owners


def override(flake: str, name: str) -> str:
    """Text of the override of a package in flake.nix, empty if there is none."""
    start = re.search(rf"^          {re.escape(name)} = ", flake, re.MULTILINE)
    if start is None:
        return ""
    end = re.compile(r"^          (\w|\}|#)", re.MULTILINE).search(flake, start.end())
    return flake[start.start() : end.start() if end else None]


def is_given(library: str, text: str, owners: set[str]) -> bool:
    """Whether the text of an override names the library, or what brings it."""
    if f'"{library}"' in text or any(f"final.{owner}\n" in text for owner in owners):
        return True
    if "cudaNames" in text and any(owner.startswith("nvidia-") for owner in owners):
        return True
    return "pkgs.stdenv.cc.cc" in text and library in {"libgcc_s.so.1", "libstdc++.so.6"}


def main() -> int:
    """Print what flake.nix lacks; the exit status says whether it lacks anything."""
    flake = Path(sys.argv[1]).read_text(encoding="utf-8")
    lacking, owners = expected_from_outside()
    if "torch" not in lacking:
        print("torch needs nothing from outside: not the wheel that flake.nix was written for")
        return 1
    failures = [
        f"{name}: {library}"
        for name, libraries in sorted(lacking.items())
        for library in sorted(libraries)
        if not is_given(library, override(flake, name), owners[library])
    ]
    print("\n".join(failures) or f"{sum(map(len, lacking.values()))} libraries, all named")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
