"""What the manuscript says about cases that no fold has: the test set and external sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import audit, output, paths
from minivess.config.files import read_yaml
from minivess.config.load import UNSEEN_SECTIONS, load_step
from minivess.errors import MinivessError
from minivess.figures.style import metric_label
from minivess.paper import interval, pipe_table
from minivess.statistics.summary import MAIN_METRICS, number

if TYPE_CHECKING:
    from minivess.paper import Results
    from minivess.types import RunKey

# Of an analysis without a result here, from what is known of it.
LEFT = {
    "evaluated": "was evaluated, and its result is not here",
    "opened": "has opened the labels and has no result",
    "unlocked": "was unlocked, may have opened the labels and has no result",
}
OTHER_WEIGHTS = "it is of other weights than those of the champion above"
OTHER_CONFIG = "it is of another configuration than the present one"


@dataclass(frozen=True)
class Opening:
    """An analysis that the test set was unlocked for, or that has a folder.

    Attributes:
        name: start of its digest, as its folder is called.
        unlocked: number of its line in the audit log; none where the log does not have it.
        evaluated: that of its evaluation.
        opened: whether its evaluation wrote the manifest, for which it reads the labels.
        result: what result.json says; none where there is none.
    """

    name: str
    unlocked: int | None
    evaluated: int | None
    opened: bool
    result: Mapping[str, Any] | None

    @property
    def left(self) -> str:
        """What is known of it without a result."""
        if self.evaluated is not None:
            return "evaluated"
        return "opened" if self.opened else "unlocked"


def openings(root: Path) -> list[Opening]:
    """Every analysis of the test set, in the order in which they were evaluated.

    Then those that were not, in the order in which they were unlocked.

    Raises:
        MinivessError: MV-LOCK-003 the audit log was changed.
    """
    lines = audit.verify(paths.audit_folder(root))
    unlocked, evaluated = (_numbers(root, lines, event) for event in (audit.UNLOCK, audit.EVALUATE))
    found = []
    for name in dict.fromkeys((*evaluated, *unlocked, *(f.name for f in _test_folders(root)))):
        folder = paths.test_folder(root, name)
        found.append(
            Opening(
                name,
                unlocked.get(name),
                evaluated.get(name),
                paths.manifest(folder).exists(),
                _read(paths.set_result(folder)) if paths.set_result(folder).exists() else None,
            )
        )
    return found


def _test_folders(root: Path) -> list[Path]:
    every = paths.test_folder(root, "any").parent
    return sorted(folder for folder in every.glob("*") if folder.is_dir())


def _numbers(root: Path, lines: Iterable[audit.Line], event: str) -> dict[str, int]:
    """Number of the first line of an event for each analysis, by the name of its folder."""
    found: dict[str, int] = {}
    for line in lines:
        if line.event == event:
            found.setdefault(paths.test_folder(root, line.facts["analysis"]).name, line.number)
    return found


def _read(file: Path) -> dict[str, Any]:
    value: dict[str, Any] = output.read_json(file, "set", "metrics", "networks", "n_cases")
    return value


def set_files(root: Path, external: Iterable[str]) -> list[Path]:
    """The files that are there of evaluations on the test set and on external sets.

    Args:
        root: results folder of the experiment.
        external: the external sets of its config: a set that is no longer in it left its folder.
    """
    tests = _test_folders(root)
    sets = [*tests, *(paths.external_folder(root, name) for name in external)]
    log = paths.audit_folder(root)
    files = [
        *map(paths.manifest, tests),
        *(log / name for name in (audit.LOG, audit.SEAL)),
        *map(paths.set_result, sets),
        *(paths.step_config(folder, "experiment") for folder in sets),
    ]
    return [file for file in files if file.is_file()]


def sources(results: Results) -> list[Path]:
    """The same files of a finished experiment, and which weights its champion has now.

    Raises:
        MinivessError: MV-LOCK-003 the audit log was changed.
    """
    audit.verify(paths.audit_folder(results.folder))
    files = set_files(results.folder, results.config.external)
    runs = _champion_runs(results.folder)
    records = [paths.run_record(paths.run_folder(results.folder, run)) for run in runs]
    return [*files, *(file for file in records if files and file.is_file())]


def set_results(root: Path) -> list[dict[str, Any]]:
    """What was found on the test set, in the order of evaluation, then on external sets.

    Raises:
        MinivessError: MV-LOCK-003 the audit log was changed.
    """
    tested = [dict(one.result) for one in openings(root) if one.result is not None]
    names = load_step(paths.step_config(root, "experiment")).external
    files = [paths.set_result(paths.external_folder(root, name)) for name in names]
    return [*tested, *(_read(file) for file in files if file.is_file())]


def _champion_runs(root: Path) -> list[RunKey]:
    """The runs of the balanced champion, which predict together on cases that no fold has."""
    from minivess.statistics import tables

    champions = tables.read("champions", paths.table(root, "champions"))
    chosen = champions.filter(kind="balanced").row(0, named=True)
    n_folds = output.read_json(paths.summary(root), "n_folds")["n_folds"]
    runs = load_step(paths.step_config(root, "experiment")).runs(n_folds)
    return [run for run in runs if (run.model, run.loss) == (chosen["model"], chosen["loss"])]


def superseded(root: Path, result: Mapping[str, Any]) -> str:
    """Why a result is not that of the balanced champion and the config now; empty where it is.

    Args:
        root: results folder of a finished experiment.
        result: what result.json says.

    Raises:
        MinivessError: MV-STATE-002 a run of the champion has no record, MV-STATE-003 it is damaged,
            MV-CONFIG-005 the config that the result was made with is damaged.
    """
    if result["networks"] != champion_weights(root):
        return OTHER_WEIGHTS
    return "" if _has_this_config(root, result) else OTHER_CONFIG


def _has_this_config(root: Path, result: Mapping[str, Any]) -> bool:
    """Whether a set was evaluated with the config of now, as far as it decides the result.

    Without the config beside it nothing says so, and it counts as of another one.
    """
    is_test = "analysis" in result
    external = paths.external_folder(root, result["set"])
    folder = paths.test_folder(root, result["analysis"]) if is_test else external
    file = paths.step_config(folder, "experiment")
    if not file.is_file():
        return False
    now = load_step(paths.step_config(root, "experiment")).model_dump(mode="json")
    then = read_yaml(file)
    if not is_test:
        now["data"] = now["external"][result["set"]]
    elif isinstance(then.get("data"), dict):
        then["data"]["exclude"] = now["data"]["exclude"]  # all cases but those of the test set
    return all(then.get(section) == now[section] for section in UNSEEN_SECTIONS)


def champion_weights(root: Path) -> dict[str, str]:
    """SHA-256 of the weights of each run of the balanced champion.

    Raises:
        MinivessError: MV-STATE-002 a run of it has no record, MV-STATE-003 it is damaged.
    """
    found = {}
    for run in _champion_runs(root):
        file = paths.run_record(paths.run_folder(root, run))
        if not file.is_file():
            raise MinivessError(
                "MV-STATE-002",
                what=f"the champion's run {run} has no record of its weights",
                where=str(file),
                fix="run the experiment to its end",
            )
        found[str(run)] = str(output.read_json(file, "weights_sha256")["weights_sha256"])
    return found


def _cases(n: int) -> str:
    return f"{n} case" if n == 1 else f"{n} cases"


def test_set_sentence(results: Results) -> str:
    """Whether there is a test set, what opened its labels, and which results are still true.

    Raises:
        MinivessError: MV-LOCK-003 the audit log was changed, MV-STATE-002 see `superseded`.
    """
    locked, found = len(results.config.folds.test_cases), openings(results.folder)
    if not locked and not found:
        return "No case was kept as a test set: every number is one of cross-validation."
    subject = f"The test set of {_cases(locked)}"
    if not locked:
        subject = "No case is a test case any more; a test set of an earlier configuration"
    if not found:
        return f"{subject} is locked: nothing has opened its labels."
    parts = [f"{subject} was {_evaluated(found)}."]
    for one in found:
        if one.result is None:
            parts.append(f"The analysis `{one.name}` {LEFT[one.left]}.")
        elif why := superseded(results.folder, one.result):
            parts.append(f"The result of the analysis `{one.name}` is superseded: {why}.")
        if one.unlocked is None:
            parts.append(f"The audit log does not have the analysis `{one.name}`.")
    return " ".join(parts)


def _evaluated(found: list[Opening]) -> str:
    """For how many analyses a test set was evaluated, and which of them can have been blind."""
    why = "; the audit log says why" if any(one.unlocked is not None for one in found) else ""
    done = [one for one in found if one.result is not None]
    if not done:
        return f"unlocked and has no result{why}"
    if len(done) == 1:
        return f"evaluated in one analysis (`{done[0].name}`){why}"
    first = done[0].evaluated
    others = [one for one in found if one is not done[0]]
    late = first is not None and all(_is_after(first, one) for one in others)
    blind = "only the first was blind" if late else "none is sure to have been blind"
    names = ", then ".join(f"`{one.name}`" for one in done)
    return f"evaluated in {len(done)} analyses ({names}), of which {blind}{why}"


def _is_after(first: int, other: Opening) -> bool:
    """Whether an analysis cannot have opened the labels before a line of the audit log."""
    if other.evaluated is not None:
        return other.evaluated > first
    return other.unlocked is not None and other.unlocked > first


def external_sentence(results: Results) -> str:
    """Which external sets there are, and which of them were evaluated; warnings of each.

    Raises:
        MinivessError: MV-STATE-002 see `superseded`.
    """
    parts = []
    for name in results.config.external:
        file = paths.set_result(paths.external_folder(results.folder, name))
        if not file.is_file():
            parts.append(f"The external set `{name}` has not been evaluated.")
            continue
        done = _read(file)
        parts.append(f"The external set `{name}` has {_cases(done['n_cases'])}.")
        if why := superseded(results.folder, done):
            parts.append(f"Its result is superseded: {why}.")
        if done["warnings"]:
            parts.append("Its warnings: " + "; ".join(done["warnings"]) + ".")
    return " ".join(parts)


def sets_table(results: Results) -> str:
    """Means of the main metrics on every set, a row for each way of predicting together.

    Raises:
        MinivessError: MV-LOCK-003 the audit log was changed, MV-STATE-002 see `superseded`.
    """
    rows = []
    for result in set_results(results.folder):
        name = result["set"] if "analysis" not in result else f"test `{result['analysis'][:8]}`"
        name += " (superseded)" if superseded(results.folder, result) else ""
        for kind, metrics in result["metrics"].items():
            cells = [f"{number(row['mean'])} {interval(row)}" for row in _main(metrics)]
            networks = f"`{result['model']}/{result['loss']}`, {kind} of {len(result['networks'])}"
            rows.append([name, networks, str(result["n_cases"]), *cells])
    if not rows:
        rows.append(["none", "no case outside the folds was evaluated", *[""] * 6])
    header = ["Set", "Networks", "Cases", *map(metric_label, MAIN_METRICS)]
    return pipe_table(header, rows, [2, 3, 1, *[2] * len(MAIN_METRICS)])


def _main(metrics: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [metrics[metric] for metric in MAIN_METRICS]
