"""`python -m chaos N`: run the experiment once, then N times disturbed; compare every byte."""

from __future__ import annotations

import argparse
import compileall
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

from workbench import PROJECT, copy_project

from chaos.rounds import CYCLE, Outcome, kind_of, play
from chaos.stage import DisorderError, Reference, make_reference


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=0, help="of all random choices (0)")
    parser.add_argument("--round", type=int, default=0, help="number of the first one (0)")
    parser.add_argument("--kind", choices=sorted(set(CYCLE)), help="only this kind")
    parser.add_argument("--folder", type=Path, help="where to work ($TMPDIR)")
    return parser.parse_args(words)


def tell(text: str) -> None:
    """A line at once, also into a pipe."""
    print(text, flush=True)


def play_all(
    asked: argparse.Namespace, folder: Path, reference: Reference, outcomes: list[Outcome]
) -> None:
    """Play the rounds one after the other, adding to outcomes; folders of failed ones stay."""
    for index in range(asked.round, asked.round + asked.rounds):
        kind = asked.kind or kind_of(index)
        working = folder / f"round-{index}"
        tell(f"round {index}: {kind}")
        say = partial(lambda number, text: tell(f"round {number}:   {text}"), index)
        outcome = play(index, kind, asked.seed, working, reference, say)
        tell(f"round {index}: {kind} {outcome.result} in {outcome.seconds:.0f} s")
        if outcome.result == "failed":
            tell(f"{outcome.reason}\nkept: {working}")
            tell(f"again: just chaos 1 --seed {asked.seed} --round {index} --kind {kind}")
        else:
            if outcome.reason:
                tell(f"round {index}:   {outcome.reason}")
            shutil.rmtree(working)
        outcomes.append(outcome)


def table(outcomes: Sequence[Outcome]) -> str:
    """Counts and mean time of each kind."""
    results = ("equal", "failed", "skipped")
    lines = [f"{'kind':<16}{'rounds':>8}" + "".join(f"{r:>9}" for r in results) + "  s/round"]
    for kind in dict.fromkeys([*CYCLE, "all"]):
        some = [outcome for outcome in outcomes if kind in (outcome.kind, "all")]
        if some:
            counts = [sum(outcome.result == result for outcome in some) for result in results]
            mean = sum(outcome.seconds for outcome in some) / len(some)
            numbers = "".join(f"{count:>9}" for count in counts)
            lines.append(f"{kind:<16}{len(some):>8}{numbers}{mean:>9.0f}")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Play; 0 where every round ended equal or was skipped, 130 after Ctrl-C."""
    asked = arguments(words)
    signal.signal(signal.SIGTERM, stop)
    begin = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="minivess-chaos-", dir=asked.folder)).resolve()
    outcomes: list[Outcome] = []
    stopped = False
    try:
        # A copy: a change of the code during the hours that this may take would be a disturbance.
        project = copy_project(PROJECT, folder / "project")
        compileall.compile_dir(project / "minivess", quiet=1)
        tell(f"the undisturbed run, in {folder}")
        reference = make_reference(folder / "reference", project)
        tell(f"{len(reference.sums)} files in {reference.seconds:.0f} s")
        play_all(asked, folder, reference, outcomes)
    except DisorderError as error:
        tell(f"the undisturbed run failed: {error}")
        return 1
    except KeyboardInterrupt:
        stopped = True
        tell("stopped; nothing runs any more")
    tell(f"\n{table(outcomes)}\n{time.monotonic() - begin:.0f} s in all")
    failed = any(outcome.result == "failed" for outcome in outcomes)
    if not failed:
        shutil.rmtree(folder)
    return 130 if stopped else int(failed)


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM is Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
