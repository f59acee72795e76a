"""The page docs/reference/benchmarks.md: a section for each benchmark, replaced in place."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

from minivess.output import write_text

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "benchmarks.md"
HEADING = """# Benchmarks

What `just bench NAME` measured, with the machine that it ran on. Each section is written by its
benchmark with `--write`; the numbers of another machine are others.
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


def write_section(path: Path, name: str, body: str) -> None:
    """Write the section of one benchmark into a page, which is made where there is none."""
    page = path.read_text(encoding="utf-8") if path.exists() else HEADING
    write_text(with_section(page, name, body), path)


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
