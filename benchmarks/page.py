"""The page docs/reference/benchmarks.md: a section for each benchmark, replaced in place."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from minivess.output import write_text

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "benchmarks.md"
HEADING = """# Benchmarks

What `just bench NAME` measured, with the machine that it ran on. Each section is written by its
benchmark with `--write`; the numbers of another machine are others. `just bench --write` makes all
of them, with these options: `--vesselnn CSV` names the stacks of vesselNN (a copy of
github.com/petteriTeikari/vesselNN_dataset with benchmarks/vesselnn.csv in its folder), `--mask` a
mask for the metrics (here MiniVess's). Without `--write` a benchmark only prints.
"""


def with_section(page: str, name: str, body: str) -> str:
    """Return a page in which the section of one benchmark is replaced, or added at the end.

    Raises:
        ValueError: the section begins and does not end.

    >>> page = with_section("# Page\\n", "metrics", "## Metrics")
    >>> with_section(page, "metrics", "## New") == page.replace("## Metrics", "## New")
    True
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    section = f"{begin}\n\n{body.strip()}\n\n{end}"
    if begin not in page:
        return f"{page.rstrip()}\n\n{section}\n"
    before, _, rest = page.partition(begin)
    if end not in rest:
        raise ValueError(f"the section {name} has no line {end}: delete it from the page")
    return before + section + rest.partition(end)[2]


def command(name: str, arguments: Sequence[str]) -> str:
    """Return the command that makes a section again, with the names alone of files.

    >>> command("metrics", ["--write", "page.md", "--mask", "data/mv68.nii.gz", "--runs", "3"])
    'just bench metrics --mask mv68.nii.gz --runs 3'
    >>> command("comparison", ["data.path=../cases.csv", "--write"])
    'just bench comparison data.path=cases.csv'
    """
    words: list[str] = []
    before = ""
    for word in arguments:
        is_page = before == "--write" and not word.startswith("-")
        if word.partition("=")[0] != "--write" and not is_page:
            key, equals, value = word.rpartition("=")
            words.append(key + equals + Path(value).name if "/" in value else word)
        before = word
    return shlex.join(["just", "bench", name, *words])


def write_section(path: Path, name: str, body: str, made: str) -> None:
    """Write the section of one benchmark into a page, which is made where there is none.

    Args:
        path: the page.
        name: of the section.
        body: its text.
        made: the command that it was made with, see `command`.
    """
    page = path.read_text(encoding="utf-8") if path.exists() else HEADING
    write_text(with_section(page, name, f"{body.rstrip()}\n\nMade with `{made}`."), path)


def machine(packages: list[str]) -> str:
    """Return the processor, system, Python and versions of packages, in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def _processor() -> str:
    """Name of the processor as Linux knows it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
