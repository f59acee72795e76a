"""What the doctor found, for people: aligned columns, the fix under what needs one."""

from __future__ import annotations

from collections.abc import Sequence

from minivess.doctor import Finding
from minivess.forecast import Step

MARKS = {"ok": "ok  ", "look": "LOOK", "fail": "FAIL"}


def findings_text(title: str, findings: Sequence[Finding]) -> str:
    """Findings as lines, in their order.

    >>> print(findings_text("Here", [Finding("fail", "disk", "1.0 GB free", "make room")]))
    Here
      FAIL  disk  1.0 GB free
                  -> make room
    """
    width = max(len(finding.name) for finding in findings)
    lines = [title]
    for finding in findings:
        lines.append(f"  {MARKS[finding.state]}  {finding.name:<{width}}  {finding.found}")
        if finding.fix and finding.state != "ok":
            lines.append(f"  {'':<{width + 6}}  -> {finding.fix}")
    return "\n".join(lines)


def forecast_text(name: str, steps: Sequence[Step]) -> str:
    """The forecast as a table, and its sums."""
    width = max(len(step.name) for step in steps)
    heads = f"  {'step':<{width}}  {'jobs':>5}  {'at once':>7}  {'memory':>9}  {'time':>8}  disk"
    lines = [f"Forecast of {name}", heads]
    for step in steps:
        at_once = min(step.jobs, step.at_once)
        disk = f"{step.disk_mb:.0f} MB" if step.disk_mb >= 1 else ""
        line = f"  {step.name:<{width}}  {step.jobs:>5}  {at_once:>7}  {step.mb:>6.0f} MB"
        lines.append(f"{line}  {duration(step.seconds):>8}  {disk:>9}".rstrip())
    largest = max(step.mb for step in steps)
    total = duration(sum(step.seconds for step in steps))
    disk = f"{sum(step.disk_mb for step in steps):.0f} MB"
    line = f"  {'all':<{width}}  {sum(step.jobs for step in steps):>5}  {'':>7}  {largest:>6.0f} MB"
    lines.append(f"{line}  {total:>8}  {disk:>9}")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> [duration(value) for value in (3.2, 90, 4000, 200000)]
    ['3 s', '1.5 min', '1.1 h', '2.3 d']
    """
    for limit, divisor, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h")):
        if seconds < limit:
            value = seconds / divisor
            return f"{value:.0f} {unit}" if unit == "s" else f"{value:.1f} {unit}"
    return f"{seconds / 86400:.1f} d"
