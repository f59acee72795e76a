"""The locked test set: what would be evaluated on it, and unlocking that once, with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minivess import audit, output, paths, provenance
from minivess.audit import EVALUATE, UNLOCK
from minivess.config.load import UNSEEN_SECTIONS, load_step
from minivess.config.schema import Experiment
from minivess.errors import MinivessError
from minivess.logs import say
from minivess.steps.champion import read_champions
from minivess.steps.runs import experiment_runs
from minivess.types import RunKey

# The rules whose configs have `UNSEEN_SECTIONS` and the test cases.
RULES = frozenset({"manifest", "preprocess", "predict", "evaluate", "compare"})


@dataclass(frozen=True)
class Analysis:
    """All that determines what an evaluation of the test cases would say, labels and code apart.

    Attributes:
        experiment: the resolved config.
        cases: the locked cases.
        runs: the networks whose mean probability is evaluated: those of the balanced champion's
            arm. None of them has seen a test case.
        facts: plain values; `digest` is theirs.
    """

    experiment: Experiment
    cases: tuple[str, ...]
    runs: tuple[RunKey, ...]
    facts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the facts."""
        return provenance.json_sha256(self.facts)


def planned_analysis(root: Path) -> Analysis:
    """The analysis of a finished experiment; opens no label.

    Raises:
        MinivessError: MV-LOCK-005 it has no test cases, MV-STATE-002 it is not finished,
            MV-STATE-005 the champion's weights are not those that were chosen, or the config is not
            the one that the results were made with.
    """
    from minivess.data.manifest import read_manifest

    experiment = load_step(paths.step_config(root, "experiment"))
    cases = tuple(sorted(experiment.folds.test_cases))
    if not cases:
        raise MinivessError(
            "MV-LOCK-005",
            what="the experiment has no test set",
            where=f"experiment {experiment.name}, folds.test_cases",
            found="no test cases",
            expected="names of cases that every fold leaves out",
            fix="name them before the first training; docs/how-to/keep-a-test-set.md says how",
        )
    chosen = read_champions(root)["champions"]["balanced"]
    arm = (chosen["model"], chosen["loss"])
    runs = tuple(run for run in experiment_runs(root) if (run.model, run.loss) == arm)
    weights = {str(run): _weights_digest(root, run) for run in runs}
    if weights.get(chosen["run"]) != chosen["weights_sha256"]:
        raise MinivessError(
            "MV-STATE-005",
            what="the champion's weights are not those that were chosen",
            where=str(paths.weights(paths.run_folder(root, chosen["run"]))),
            found=f"SHA-256 {weights.get(chosen['run'])}",
            expected=f"SHA-256 {chosen['weights_sha256']}, as in {paths.champions(root)}",
            fix="run the experiment to its end first",
        )
    _check_config(root)
    manifest = read_manifest(paths.manifest(root))
    images = dict(manifest.select("case", "image_sha256").iter_rows())
    config = experiment.model_dump(mode="json")
    facts = {
        "arm": list(arm),
        "weights": weights,
        "images": {case: images[case] for case in cases},
        "config": {section: config[section] for section in UNSEEN_SECTIONS},
        # How it is computed, as far as it changes the last bits.
        "compute": {name: config["compute"][name] for name in ("profile", "threads")},
    }
    return Analysis(experiment, cases, runs, facts)


def _check_config(root: Path) -> None:
    """Raise where a run with other values has written the config and was stopped before its end."""
    from minivess.reproducibility.chain import whole_chain
    from minivess.reproducibility.check import changed_configs

    chain = whole_chain(root)
    found = changed_configs(chain, (job for job in chain.jobs if job.rule in RULES))
    if not found.problems:
        return
    raise MinivessError(
        "MV-STATE-005",
        what="the config is not the one that the results were made with",
        where=str(root / "config"),
        found="; ".join(f"{chain.short(name)}: {what}" for name, what in found.problems.items()),
        expected="the digests that the jobs recorded; a run with other values that was stopped "
        "early leaves others",
        fix=f"run the experiment again with the config that you want: just experiment {root.name}",
    )


def _weights_digest(root: Path, run: RunKey) -> str:
    path = paths.weights(paths.run_folder(root, run))
    if not path.exists():
        raise MinivessError(
            "MV-STATE-002",
            what=f"the run {run} of the champion has no weights",
            where=str(path),
            fix=f"run the experiment to its end: just experiment {root.name}",
        )
    return provenance.file_sha256(path)


def unlock_test(root: Path, who: str, reason: str) -> audit.Line:
    """Log who unlocks the test set for the analysis as it is now, and why; the line.

    An analysis is unlocked once: a second call changes nothing. Any change of what determines the
    result makes another analysis, which needs its own line.

    Raises:
        MinivessError: as `planned_analysis` and `audit.append`.
    """
    analysis = planned_analysis(root)
    folder = paths.audit_folder(root)
    line = find_line(folder, UNLOCK, analysis.digest)
    if line is not None:
        say(f"unlocked before, on {line.time} by {line.who}: {line.reason}")
        return line
    line = audit.append(
        folder,
        UNLOCK,
        who,
        reason,
        {
            "analysis": analysis.digest,
            "experiment": analysis.experiment.name,
            "cases": list(analysis.cases),
            "champion": "/".join(analysis.facts["arm"]),
            "networks": len(analysis.runs),
            "git": provenance.git_state(),
        },
    )
    say(
        f"unlocked {len(analysis.cases)} test cases for one evaluation of "
        f"{line.facts['champion']} (analysis {analysis.digest[:16]})"
    )
    say(f"head of the audit log: {line.digest}; note it outside of this folder")
    return line


def find_line(folder: Path, event: str, analysis: str) -> audit.Line | None:
    """The line of an event of an analysis in the audit log, which is checked first.

    Raises:
        MinivessError: MV-LOCK-003 the log was changed.
    """
    lines = audit.verify(folder)
    found = (ln for ln in lines if ln.event == event and ln.facts.get("analysis") == analysis)
    return next(found, None)


def evaluate_test(root: Path) -> Mapping[str, Any]:
    """Evaluate the balanced champion's arm on the test cases; what result.json says.

    The mean probability of all its networks is the result; their vote is measured beside it. An
    analysis that was evaluated before is not evaluated again: its stored result is returned and the
    log stays as it is.

    Raises:
        MinivessError: MV-LOCK-002 nobody has unlocked this analysis, MV-LOCK-003 the log was
            changed, MV-STATE-005 the stored result is not what was logged, MV-STATE-006 a lost
            result was made again with other bytes, MV-DATA-017 the test cases have errors.
    """
    from filelock import FileLock

    analysis = planned_analysis(root)
    log = paths.audit_folder(root)
    unlocked = find_line(log, UNLOCK, analysis.digest)
    if unlocked is None:
        raise _locked(root, analysis)
    folder = paths.test_folder(root, analysis.digest)
    with FileLock(log / ".evaluating"):
        logged = find_line(log, EVALUATE, analysis.digest)
        if logged is not None and paths.set_result(folder).exists():
            _check_stored(folder, logged)
            say(f"evaluated before, on {logged.time}; this is the stored result")
            return read_result(folder)
        result = _evaluate(root, analysis, folder)
        files = _stored_digests(folder)
        if logged is None:
            facts = {"analysis": analysis.digest, "cases": list(analysis.cases), "files": files}
            audit.append(log, EVALUATE, unlocked.who, unlocked.reason, facts)
        elif files != logged.facts["files"]:
            raise MinivessError(
                "MV-STATE-006",
                what="the test result was lost, and making it again gave other bytes",
                where=str(folder),
                found=str(files),
                expected=f"{logged.facts['files']}, logged on {logged.time}",
                fix="go back to the code and the labels of that day; the audit log has the commit",
            )
    return result


def _locked(root: Path, analysis: Analysis) -> MinivessError:
    others = [line for line in audit.verify(paths.audit_folder(root)) if line.event == UNLOCK]
    found = "no line in the audit log"
    if others:
        found = f"{len(others)} lines for other analyses: config, weights or images have changed"
    return MinivessError(
        "MV-LOCK-002",
        what="the test set is locked for this analysis",
        where=str(paths.audit_folder(root)),
        found=found,
        expected=f"a line for the analysis {analysis.digest[:16]}",
        fix=f'minivess unlock-test -e {root.name} --who "your name" --reason "why now"',
    )


def _evaluate(root: Path, analysis: Analysis, folder: Path) -> Mapping[str, Any]:
    from minivess.data.sources import list_cases
    from minivess.inference.ensemble import check_unseen, read_member
    from minivess.steps.evaluated import case_set, evaluate_arm, prepare_cases, write_result

    experiment = analysis.experiment
    free = [case.case for case in list_cases(experiment, root) if not case.locked]
    data = experiment.data
    only_test = data.model_copy(update={"exclude": (*data.exclude, *free)})
    members = [read_member(paths.run_folder(root, run), str(run)) for run in analysis.runs]
    check_unseen(members, analysis.cases)
    cases = case_set("test", folder, experiment, only_test)
    prepare_cases(cases)
    table = evaluate_arm(cases, analysis.cases, root, analysis.runs, "test")
    model, loss = analysis.facts["arm"]
    facts = {"analysis": analysis.digest, "model": model, "loss": loss}
    return write_result(cases, table, {**facts, "networks": analysis.facts["weights"]})


def _stored_digests(folder: Path) -> dict[str, str]:
    files = (paths.manifest(folder), paths.table(folder, "test"), paths.set_result(folder))
    return {file.relative_to(folder).as_posix(): provenance.file_sha256(file) for file in files}


def _check_stored(folder: Path, logged: audit.Line) -> None:
    for name, digest in logged.facts["files"].items():
        file = folder / name
        if not file.exists() or provenance.file_sha256(file) != digest:
            raise MinivessError(
                "MV-STATE-005",
                what="the stored test result is not what was logged",
                where=str(file),
                found="another file" if file.exists() else "no file",
                expected=f"SHA-256 {digest}, logged on {logged.time}",
                fix=f"remove {folder} and evaluate again: it must give the logged bytes",
            )


def read_result(folder: Path) -> Mapping[str, Any]:
    """result.json of a set that was evaluated."""
    result: Mapping[str, Any] = output.read_json(paths.set_result(folder))
    return result
