"""What is said of test and external sets: what the audit log and the files say, in its order."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from minivess import audit, output, paper, paper_sets, paths
from minivess.cli.people import summary
from minivess.config.files import read_yaml
from minivess.config.load import as_yaml
from minivess.errors import MinivessError
from minivess.metrics import METRICS
from minivess.steps import paper as step

FIRST, SECOND = "f" * 64, "a" * 64  # in the other order by name
ROW = {"unit": "1", "mean": 0.625, "ci_low": 0.5, "ci_high": 0.75, "n_cases": 2, "n_not_ok": 0}


@pytest.fixture
def experiment(root: Path, tmp_path: Path) -> Path:
    """A copy with two locked cases, an external set, and the records of its runs."""
    copy = tmp_path / "demo"
    shutil.copytree(root, copy)
    configure(copy, ["t1", "t2"], ["octa"])
    results = paper.read_results(copy)
    for run in results.config.runs(2):
        record = {"weights_sha256": f"weights of {run}"}
        output.write_json(record, paths.run_record(paths.run_folder(copy, run)))
    return copy


def configure(root: Path, test_cases: Sequence[str], external: Sequence[str]) -> None:
    config = paths.step_config(root, "experiment")
    resolved = yaml.safe_load(config.read_text(encoding="utf-8"))
    resolved["folds"]["test_cases"] = list(test_cases)
    outside = {**resolved["data"], "source": "csv", "path": "x.csv"}
    resolved["external"] = dict.fromkeys(external, outside)
    config.write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")


def log(root: Path, event: str, analysis: str) -> None:
    facts = {"analysis": analysis}
    audit.append(paths.audit_folder(root), event, "A. Person", "as planned", facts)


def result(root: Path, name: str, **facts: Any) -> dict[str, Any]:
    champion = paper_sets.champion_weights(root)
    about: dict[str, Any] = {"set": name, "model": "net", "loss": "dice_ce", "n_cases": 2}
    about["networks"] = champion
    about["metrics"] = {kind: dict.fromkeys(METRICS, ROW) for kind in ("mean", "vote")}
    return {**about, **facts}


def evaluate(root: Path, analysis: str, **facts: Any) -> None:
    """What an evaluation of the test set leaves."""
    folder = paths.test_folder(root, analysis)
    output.write_text("the manifest", paths.manifest(folder))
    output.write_json(result(root, "test", analysis=analysis, **facts), paths.set_result(folder))
    keep_config(root, folder, exclude=["phantom_001"])
    log(root, audit.EVALUATE, analysis)


def evaluate_octa(root: Path, **facts: Any) -> None:
    """What an evaluation of the external set leaves."""
    folder = paths.external_folder(root, "octa")
    output.write_json(result(root, "octa", **{"warnings": [], **facts}), paths.set_result(folder))
    keep_config(root, folder, source="csv", path="x.csv")


def keep_config(root: Path, folder: Path, **data: Any) -> None:
    """The config of now in the folder of a set, with its own section data."""
    config = read_yaml(paths.step_config(root, "experiment"))
    config["data"].update(data)
    output.write_text(as_yaml(config), paths.step_config(folder, "experiment"))


def sentence(root: Path) -> str:
    return paper_sets.test_set_sentence(paper.read_results(root))


def test_nothing_was_opened(experiment: Path) -> None:
    assert sentence(experiment).endswith("is locked: nothing has opened its labels.")


def test_what_is_rendered_has_the_results_of_other_cases(experiment: Path, tmp_path: Path) -> None:
    log(experiment, audit.UNLOCK, FIRST)
    evaluate(experiment, FIRST)
    evaluate_octa(experiment, warnings=["one laboratory"])
    step.stage_results(experiment, tmp_path)
    staged = paper.read_results(tmp_path / "results")
    said = paper_sets.test_set_sentence(staged)
    name = FIRST[:16]
    assert f"was evaluated in one analysis (`{name}`); the audit log says why." in said
    outside = paper_sets.external_sentence(staged)
    assert outside == "The external set `octa` has 2 cases. Its warnings: one laboratory."
    own = paper.read_results(experiment)
    assert paper_sets.set_results(staged.folder) == paper_sets.set_results(experiment)
    assert paper_sets.sets_table(staged) == paper_sets.sets_table(own)
    assert "superseded" not in paper_sets.sets_table(own)


def test_evaluations_are_in_the_order_of_the_audit_log(experiment: Path) -> None:
    for analysis in (FIRST, SECOND):
        log(experiment, audit.UNLOCK, analysis)
        evaluate(experiment, analysis)
    said = sentence(experiment)
    both = f"(`{FIRST[:16]}`, then `{SECOND[:16]}`)"
    assert f"in 2 analyses {both}, of which only the first was blind; the audit log" in said
    shown = [one["analysis"] for one in paper_sets.set_results(experiment)]
    assert shown == [FIRST, SECOND]


def test_the_first_is_not_blind_after_one_that_failed(experiment: Path) -> None:
    for analysis in (FIRST, SECOND, "c" * 64):
        log(experiment, audit.UNLOCK, analysis)
    evaluate(experiment, SECOND)
    evaluate(experiment, "c" * 64)
    assert "of which none is sure to have been blind" in sentence(experiment)


@pytest.mark.parametrize(
    ("manifest", "left"),
    [(True, "has opened the labels"), (False, "was unlocked, may have opened the labels")],
)
def test_an_evaluation_that_failed_has_opened_the_labels(
    experiment: Path, manifest: bool, left: str
) -> None:
    log(experiment, audit.UNLOCK, FIRST)
    if manifest:
        output.write_text("x", paths.manifest(paths.test_folder(experiment, FIRST)))
    said = sentence(experiment)
    assert "nothing has opened its labels" not in said
    assert f"The analysis `{FIRST[:16]}` {left} and has no result." in said
    assert "was unlocked and has no result; the audit log says why." in said


def test_a_lost_result_is_told(experiment: Path) -> None:
    log(experiment, audit.UNLOCK, FIRST)
    evaluate(experiment, FIRST)
    shutil.rmtree(paths.test_folder(experiment, FIRST))
    assert f"`{FIRST[:16]}` was evaluated, and its result is not here." in sentence(experiment)


def test_a_result_without_its_line_is_told(experiment: Path) -> None:
    evaluate(experiment, FIRST)
    shutil.rmtree(paths.audit_folder(experiment))
    said = sentence(experiment)
    assert f"The audit log does not have the analysis `{FIRST[:16]}`." in said
    assert "says why" not in said


def test_a_test_set_that_the_config_no_longer_names_is_told(experiment: Path) -> None:
    log(experiment, audit.UNLOCK, FIRST)
    evaluate(experiment, FIRST)
    configure(experiment, [], [])
    said = sentence(experiment)
    assert said.startswith("No case is a test case any more; a test set of an earlier config")
    assert f"(`{FIRST[:16]}`)" in said


def test_results_of_other_weights_are_superseded(experiment: Path) -> None:
    old = {"net/dice_ce/seed0/fold0": "0" * 64}
    log(experiment, audit.UNLOCK, FIRST)
    evaluate(experiment, FIRST, networks=old)
    evaluate_octa(experiment, networks=old)
    why = "superseded: it is of other weights than those of the champion above."
    assert f"The result of the analysis `{FIRST[:16]}` is {why}" in sentence(experiment)
    results = paper.read_results(experiment)
    assert f"Its result is {why}" in paper_sets.external_sentence(results)
    rows = paper_sets.sets_table(results).splitlines()[2:]
    assert ["(superseded)" in row for row in rows] == [True] * 4


@pytest.mark.parametrize(
    "place",
    [
        ("inference", "probability_threshold", 0.25),
        ("evaluation", "nsd_tolerance_um", 7.0),
        ("preprocess", "normalisation", "minmax"),
        ("statistics", "bootstrap_resamples", 77),
        ("data", "vessel_labels", [1, 2]),
        None,
    ],
)
def test_results_of_another_configuration_are_superseded(
    experiment: Path, tmp_path: Path, place: tuple[str, str, Any] | None
) -> None:
    log(experiment, audit.UNLOCK, FIRST)
    evaluate(experiment, FIRST)
    evaluate_octa(experiment)
    file = paths.step_config(experiment, "experiment")
    if place is None:  # nothing says which
        for folder in (paths.test_folder(experiment, FIRST), experiment / "external" / "octa"):
            paths.step_config(folder, "experiment").unlink()
    else:
        config = read_yaml(file)
        section, key, value = place
        for one in [config[section], *(config["external"].values() if section == "data" else [])]:
            assert one[key] != value
            one[key] = value
        output.write_text(as_yaml(config), file)
    step.stage_results(experiment, tmp_path)
    results = paper.read_results(tmp_path / "results")
    why = f"superseded: {paper_sets.OTHER_CONFIG}."
    said = paper_sets.test_set_sentence(results)
    assert f"The result of the analysis `{FIRST[:16]}` is {why}" in said
    assert f"Its result is {why}" in paper_sets.external_sentence(results)
    rows = paper_sets.sets_table(results).splitlines()[2:]
    assert ["(superseded)" in row for row in rows] == [True] * 4


def test_another_training_config_alone_supersedes_nothing(experiment: Path) -> None:
    evaluate_octa(experiment)
    file = paths.step_config(experiment, "experiment")
    config = read_yaml(file)
    config["training"]["epochs"] += 1
    config["data"]["exclude"] = ["phantom_001"]
    output.write_text(as_yaml(config), file)
    assert "superseded" not in paper_sets.external_sentence(paper.read_results(experiment))


def test_the_summary_says_which_results_are_superseded(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log(experiment, audit.UNLOCK, FIRST)
    evaluate(experiment, FIRST, networks={"net/dice_ce/seed0/fold0": "0" * 64})
    log(experiment, audit.UNLOCK, SECOND)
    evaluate(experiment, SECOND)
    output.write_text("The summary.\n", paths.summary_text(experiment))
    (experiment.parent / "results").mkdir()
    experiment.rename(experiment.parent / "results" / "demo")
    monkeypatch.chdir(experiment.parent)
    summary("demo")
    first, second = capsys.readouterr().out.split("net/dice_ce, mean of")[1:]
    assert f"superseded: {paper_sets.OTHER_WEIGHTS}" in first
    assert "superseded" not in second
    shutil.rmtree(paths.experiment_folder("demo") / "runs")  # as while it is run again
    summary("demo")
    assert capsys.readouterr().out.count("cannot be told: the champion's run") == 2


def test_a_champion_without_its_record_is_an_error(experiment: Path) -> None:
    log(experiment, audit.UNLOCK, FIRST)
    evaluate(experiment, FIRST)
    shutil.rmtree(experiment / "runs")
    with pytest.raises(MinivessError, match="has no record of its weights"):
        sentence(experiment)


def test_a_set_that_was_renamed_has_no_part_in_it(experiment: Path) -> None:
    file = paths.set_result(paths.external_folder(experiment, "octa"))
    output.write_json(result(experiment, "octa", warnings=[]), file)
    assert paper_sets.set_files(experiment, ["octa"]) == [file]
    configure(experiment, [], ["oct_a"])
    assert paper_sets.set_files(experiment, ["oct_a"]) == []
    results = paper.read_results(experiment)
    assert paper_sets.set_results(experiment) == []
    assert "octa" not in paper_sets.sets_table(results)
    assert paper_sets.sources(results) == []


def test_a_log_that_was_changed_is_not_rendered(experiment: Path, tmp_path: Path) -> None:
    log(experiment, audit.UNLOCK, FIRST)
    (paths.audit_folder(experiment) / audit.SEAL).unlink()
    log_file = paths.audit_folder(experiment) / audit.LOG
    log_file.write_text(log_file.read_text(encoding="utf-8").replace("planned", "we like"))
    with pytest.raises(MinivessError) as caught:
        step.stage_results(experiment, tmp_path)
    assert caught.value.code == "MV-LOCK-003"
