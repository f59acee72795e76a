"""What a person sees of a training: one row per epoch, with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

COLUMNS = ("epoch", "loss", "learning rate", "selection Dice", "s/epoch", "left")


@dataclass(frozen=True)
class EpochRow:
    """One finished epoch."""

    epoch: int
    epochs: int
    train_loss: float
    learning_rate: float
    selection: Mapping[str, float]  # by metric; empty where the epoch was not evaluated
    is_best: bool
    seconds: float


type Report = Callable[[EpochRow], None]


def remaining(seconds: list[float], left: int) -> str:
    """Time left as m:ss or h:mm:ss, from the median epoch so far.

    >>> remaining([2.0, 2.0, 9.0], 60)
    '2:00'
    """
    total = round(sorted(seconds)[len(seconds) // 2] * left)
    hours, rest = divmod(total, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"


def cells(row: EpochRow, seconds: list[float]) -> tuple[str, ...]:
    """The texts of a row, in the order of `COLUMNS`."""
    dice = f"{row.selection['dice']:.4f}" if row.selection else ""
    return (
        f"{row.epoch}/{row.epochs}",
        f"{row.train_loss:.4f}",
        f"{row.learning_rate:.2e}",
        dice + (" best" if row.is_best else ""),
        f"{row.seconds:.1f}",
        remaining(seconds, row.epochs - row.epoch),
    )


@contextmanager
def progress_table(kind: str, title: str) -> Iterator[Report]:
    """A function to call with each finished epoch.

    Args:
        kind: auto (rich on a terminal, plain elsewhere), rich, plain or none.
        title: what is trained.

    Raises:
        ValueError: another kind.
    """
    if kind == "auto":
        kind = "rich" if sys.stderr.isatty() else "plain"
    seconds: list[float] = []
    if kind == "none":
        yield lambda row: None
    elif kind == "plain":

        def plain(row: EpochRow) -> None:
            seconds.append(row.seconds)
            texts = cells(row, seconds)
            pairs = [f"{name} {text}" for name, text in zip(COLUMNS, texts, strict=True) if text]
            print(f"{title}: {', '.join(pairs)}", file=sys.stderr, flush=True)

        yield plain
    elif kind == "rich":
        from rich.console import Console
        from rich.live import Live
        from rich.table import Table

        table = Table(*COLUMNS, title=title)

        def live_row(row: EpochRow) -> None:
            seconds.append(row.seconds)
            table.add_row(*cells(row, seconds))

        with Live(table, console=Console(stderr=True), vertical_overflow="visible"):
            yield live_row
    else:
        raise ValueError(f"progress is auto, rich, plain or none, not {kind}")


def clock() -> float:
    """Seconds of a steady clock, for durations on the screen only."""
    return time.perf_counter()
