"""Unlocking the test set: once per analysis, in the log, without a trace in the results."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from minivess import audit, paths
from minivess.config.load import load_step
from minivess.config.schema import DataConfig, Experiment, FoldsConfig, PhantomConfig
from minivess.data.phantom import make_phantom, write_phantom
from minivess.data.preprocess import normalise, open_case
from minivess.data.volume import read_volume
from minivess.errors import MinivessError
from minivess.inference.predict import load_network, predict_case
from minivess.metrics import METRICS
from minivess.paper_sets import set_results
from minivess.statistics import tables
from minivess.steps import data, locked_set
from minivess.steps.evaluated import case_set, prepare_cases, result_lines

from .conftest import LOCKED, RUNS, configured, make_data, run_again


def digests(root: Path) -> dict[str, str]:
    """Every file of the results but the log."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "audit" not in path.relative_to(root).parts[:1]
    }


def test_unlocking_is_a_line_and_no_byte_elsewhere(root: Path) -> None:
    before = digests(root)
    line = locked_set.unlock_test(root, "A. Person", "the final result")
    assert digests(root) == before
    (logged,) = audit.verify(paths.audit_folder(root))
    assert logged == line
    assert (logged.who, logged.reason) == ("A. Person", "the final result")
    assert logged.facts["cases"] == [LOCKED]
    assert logged.facts["champion"] == "tiny/dice_ce"
    assert logged.facts["networks"] == 2
    assert logged.facts["analysis"] == locked_set.planned_analysis(root).digest


def test_the_cross_validation_stays_locked_after_it(root: Path) -> None:
    locked_set.unlock_test(root, "A. Person", "the final result")
    with pytest.raises(MinivessError, match="MV-LOCK-001"):
        data.preprocess(root, LOCKED)


def test_the_same_analysis_is_unlocked_once(root: Path) -> None:
    first = locked_set.unlock_test(root, "A. Person", "the final result")
    assert locked_set.unlock_test(root, "B. Person", "another reason") == first
    assert len(audit.verify(paths.audit_folder(root))) == 1


def test_what_decides_the_result_makes_another_analysis(root: Path) -> None:
    plain = locked_set.planned_analysis(root).digest
    found = {plain}
    for changes in (
        {"inference": {"probability_threshold": 0.4}},
        {"evaluation": {"nsd_tolerance_um": 3.0}},
        {"preprocess": {"normalisation": "minmax"}},
    ):
        run_again(Path(), **changes)
        found.add(locked_set.planned_analysis(root).digest)
    assert len(found) == 4
    run_again(Path(), figures={"qualitative": {"width_mm": 100}}, compute={"device": "auto"})
    assert locked_set.planned_analysis(root).digest == plain
    weights = paths.weights(paths.run_folder(root, RUNS[1]))
    weights.write_bytes(weights.read_bytes() + b"0")
    assert locked_set.planned_analysis(root).digest not in found


def test_a_config_that_was_only_planned_opens_no_label(root: Path) -> None:
    locked_set.unlock_test(root, "A. Person", "the final result")
    configured(Path(), inference={"probability_threshold": 0.3})  # as a stopped run leaves it
    for refused_ in (
        lambda: locked_set.unlock_test(root, "A. Person", "another result"),
        lambda: locked_set.evaluate_test(root),
    ):
        with pytest.raises(MinivessError) as caught:
            refused_()
        assert caught.value.code == "MV-STATE-005"
        assert "config/predict.yaml: changed since predict used it" in caught.value.found
        assert "just experiment small" in caught.value.fix
    assert len(audit.verify(paths.audit_folder(root))) == 1
    assert not (root / "test").exists()
    configured(Path(), figures={"qualitative": {"width_mm": 100}})
    assert locked_set.planned_analysis(root).cases == (LOCKED,)


def test_other_weights_than_the_chosen_ones_are_refused(root: Path) -> None:
    paths.weights(paths.run_folder(root, RUNS[0])).write_bytes(b"others")
    with pytest.raises(MinivessError) as caught:
        locked_set.unlock_test(root, "A. Person", "the final result")
    assert caught.value.code == "MV-STATE-005"
    assert not paths.audit_folder(root).exists()


def test_without_a_champion_nothing_is_unlocked(root: Path) -> None:
    paths.champions(root).unlink()
    with pytest.raises(MinivessError, match="MV-STATE-002"):
        locked_set.unlock_test(root, "A. Person", "curiosity")
    assert not paths.audit_folder(root).exists()


def test_without_test_cases_there_is_nothing_to_unlock(root: Path) -> None:
    configured(Path(), folds={"n_folds": 2})
    with pytest.raises(MinivessError) as caught:
        locked_set.unlock_test(root, "A. Person", "curiosity")
    assert (caught.value.code, caught.value.exit_status) == ("MV-LOCK-005", 9)


def test_a_log_that_was_changed_unlocks_nothing(root: Path) -> None:
    locked_set.unlock_test(root, "A. Person", "the final result")
    log = paths.audit_folder(root) / audit.LOG
    values = json.loads(log.read_text(encoding="utf-8"))
    log.write_text(json.dumps({**values, "reason": "x"}) + "\n", encoding="utf-8")
    with pytest.raises(MinivessError, match="MV-LOCK-003"):
        locked_set.unlock_test(root, "A. Person", "the final result")


def refused(root: Path) -> MinivessError:
    with pytest.raises(MinivessError) as caught:
        locked_set.evaluate_test(root)
    return caught.value


def test_nothing_is_evaluated_before_the_unlock(root: Path) -> None:
    error = refused(root)
    assert (error.code, error.exit_status) == ("MV-LOCK-002", 9)
    assert not (root / "test").exists()


def test_the_mean_of_all_networks_is_evaluated_once(root: Path) -> None:
    before = digests(root)
    locked_set.unlock_test(root, "A. Person", "the final result")
    result = locked_set.evaluate_test(root)
    after = digests(root)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("test/") for name in after.keys() - before.keys())
    folder = paths.test_folder(root, result["analysis"])
    table = tables.read("test", paths.table(folder, "test"))
    assert table["case"].unique().to_list() == [LOCKED]
    assert set(table["ensemble"]) == {"mean", "vote"}
    assert table.filter(ensemble="mean")["metric"].to_list() == sorted(METRICS)
    expected_mask, expected_dice = recomputed(root, folder)
    mask = read_volume(paths.prediction(folder, LOCKED)).array > 0
    assert np.array_equal(mask, expected_mask)
    dice = table.filter(metric="dice", ensemble="mean")["value"].item()
    assert dice == pytest.approx(expected_dice, abs=1e-12)
    assert result["metrics"]["mean"]["dice"]["mean"] == dice
    # Of two networks both must have a voxel: half is no majority.
    voted = read_volume(paths.prediction(paths.vote_folder(folder), LOCKED)).array > 0
    assert np.array_equal(voted, recomputed_vote(root, folder))
    assert set(result["networks"]) == {str(run) for run in RUNS}
    lines = audit.verify(paths.audit_folder(root))
    assert [line.event for line in lines] == ["unlock-test", "test-evaluate"]
    # Again: the stored result, no line, no byte.
    assert locked_set.evaluate_test(root) == result
    assert audit.verify(paths.audit_folder(root)) == lines
    assert digests(root) == after
    lines_of = result_lines(result, ("dice",))
    assert [line.partition(",")[0] for line in lines_of[::2]] == ["test: tiny/dice_ce"] * 2
    assert len(result_lines(result)) == 2 * (1 + len(METRICS))
    assert set_results(root) == [result]


def recomputed(root: Path, folder: Path) -> tuple[np.ndarray, float]:
    """Mask and Dice of the mean probability, from the phantom itself and the runs' networks."""
    experiment = load_step(paths.step_config(root, "experiment"))
    image = make_phantom(experiment.phantom, 4).image
    reference = make_phantom(experiment.phantom, 4).label > 0
    case = open_case(paths.preprocessed_case(folder, LOCKED))
    normalised, _ = normalise(image, experiment.preprocess)
    assert np.array_equal(case.image, normalised)
    found = [
        predict_case(
            load_network(paths.run_folder(root, run)),
            case,
            experiment.inference,
            experiment.compute,
        )[0]
        for run in RUNS
    ]
    mask = np.mean(found, axis=0) > 0.5
    return mask, 2 * (mask & reference).sum() / (mask.sum() + reference.sum())


def recomputed_vote(root: Path, folder: Path) -> np.ndarray:
    experiment = load_step(paths.step_config(root, "experiment"))
    case = open_case(paths.preprocessed_case(folder, LOCKED))
    networks = [load_network(paths.run_folder(root, run)) for run in RUNS]
    masks = [predict_case(n, case, experiment.inference, experiment.compute)[1] for n in networks]
    return np.all(masks, axis=0)


def test_another_analysis_needs_its_own_line(root: Path) -> None:
    locked_set.unlock_test(root, "A. Person", "the final result")
    locked_set.evaluate_test(root)
    run_again(Path(), inference={"probability_threshold": 0.4})
    error = refused(root)
    assert error.code == "MV-LOCK-002"
    assert "1 lines for other analyses" in error.found
    locked_set.unlock_test(root, "A. Person", "a reviewer asked for another threshold")
    locked_set.evaluate_test(root)
    assert len(list((root / "test").iterdir())) == 2
    reasons = [line.reason for line in audit.verify(paths.audit_folder(root))]
    assert reasons[1:3] == ["the final result", "a reviewer asked for another threshold"]


def test_a_stored_result_that_was_changed_is_found_and_a_lost_one_is_made_again(root: Path) -> None:
    locked_set.unlock_test(root, "A. Person", "the final result")
    result = locked_set.evaluate_test(root)
    folder = paths.test_folder(root, result["analysis"])
    stored = paths.set_result(folder).read_bytes()
    paths.set_result(folder).write_bytes(stored.replace(b'"dice"', b'"dixe"'))
    assert refused(root).code == "MV-STATE-005"
    shutil.rmtree(folder)
    assert locked_set.evaluate_test(root) == result
    assert paths.set_result(folder).read_bytes() == stored
    assert len(audit.verify(paths.audit_folder(root))) == 2


def test_a_label_that_cannot_be_read_is_named_once_it_is_needed(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then nobody has noticed: all other steps have run."""
    shutil.copytree(small, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    experiment = load_step(Path("results/small/config/experiment.yaml"))
    write_phantom(experiment.phantom, Path("scans"))
    label = Path("scans/labels") / f"{LOCKED}.nii.gz"
    label.write_bytes(b"not yet")
    run_again(Path(), data={"source": "csv", "path": "scans/cases.csv"})
    root = Path("results/small")
    make_data(root)
    locked_set.unlock_test(root, "A. Person", "the final result")
    error = refused(root)
    assert error.code == "MV-DATA-017"
    assert str(label) in error.found
    # Repaired, the same line still counts: the analysis does not know the labels.
    write_phantom(experiment.phantom, Path("scans"))
    assert locked_set.evaluate_test(root)["n_cases"] == 1


def test_the_labels_of_a_zip_come_out_for_the_test_alone(tmp_path: Path) -> None:
    """Of the test cases; those of the folds are in the experiment's own folder."""
    shape = PhantomConfig(n_cases=3, phantom_shape=(16, 16, 8))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        write_phantom(shape, tmp_path / "made")
        for number in (1, 2, 3):
            for kind, name in (("images", f"raw/mv0{number}"), ("labels", f"seg/mv0{number}_y")):
                file = tmp_path / "made" / kind / f"phantom_00{number}.nii.gz"
                packed.write(file, f"{name}.nii.gz")
    experiment = Experiment(name="x", folds=FoldsConfig(test_cases=("mv02",)))
    given = DataConfig(source="minivess", path=str(tmp_path / "set.zip"), exclude=("mv01", "mv03"))
    cases = case_set("test", tmp_path / "test", experiment, given)
    manifest = prepare_cases(cases)
    assert manifest["case"].to_list() == ["mv02"]
    assert not manifest["locked"].any()
    unpacked = sorted(path.name for path in paths.unpacked_folder(cases.folder).rglob("*.gz"))
    assert unpacked == ["mv02.nii.gz", "mv02_y.nii.gz"]
    label = open_case(paths.preprocessed_case(cases.folder, "mv02")).label
    assert np.array_equal(label, make_phantom(shape, 1).label)
