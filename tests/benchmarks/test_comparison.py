"""The comparison with nnU-Net asks both sides for the same; nnU-Net itself is not needed here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import polars as pl
import pytest
import yaml

from minivess import output, paths
from minivess.config.load import resolve
from minivess.data.folds import Fold, Folds, write_folds
from minivess.metrics import METRICS
from minivess.metrics.evaluate import MetricValue, case_rows
from minivess.models.dynunet import kernels_and_strides
from minivess.statistics import tables
from minivess.types import RunKey

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("comparison")
    for name in ("comparison", "nnunet", "page", "sides"):
        sys.modules.pop(name, None)


def test_the_budget_reaches_this_projects_side(comparison: ModuleType, tmp_path: Path) -> None:
    options = ["--patch", "32", "32", "8", "--batch", "3", "--epochs", "7", "--steps", "5"]
    given = comparison.parsed([*options, "--folds", "4", "data.source=csv", "--profile", "strict"])
    assert given.keys == ["data.source=csv"]
    file = tmp_path / "comparison_phantom.yaml"
    file.write_text(yaml.safe_dump(comparison.config(given)), encoding="utf-8")
    ours = resolve(str(file))
    assert ours.patches.patch_size == (32, 32, 8)
    assert (ours.patches.batch_size, ours.patches.patches_per_epoch) == (3, 15)
    assert (ours.training.epochs, ours.folds.n_folds, ours.compute.profile) == (7, 4, "strict")
    assert ours.losses == comparison.LOSSES
    assert ours.folds.selection_fraction == 0.2
    file.write_text(yaml.safe_dump(comparison.config(comparison.parsed(["--selection", "0"]))))
    assert resolve(str(file)).folds.selection_fraction == 0


def test_keys_that_only_one_side_would_get_are_refused(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    file = tmp_path / "comparison_phantom.yaml"
    file.write_text(yaml.safe_dump(comparison.config(comparison.parsed([]))), encoding="utf-8")
    comparison._check_keys(file, ["phantom.n_cases=4", "folds.folds_seed=1"])
    only_ours = {
        "training": "epochs=7",
        "seeds": "seeds=[0,1]",
        "models": "models.dynunet.filters=[4,8,8]",
        "folds.n_folds": "folds.n_folds=3",
        "folds.selection_fraction": "folds.selection_fraction=0",
        "inference": "inference.overlap=0",
        "augment": "augment.noise_probability=1",
        "loss": "loss.smooth=2",
        "preprocess": "preprocess.clip_percentiles=[1,99]",
    }
    for name, key in only_ours.items():
        with pytest.raises(SystemExit, match=f"^{name}: both sides"):
            comparison._check_keys(file, [key])
    with pytest.raises(SystemExit, match=r"^augment: both sides"):
        comparison._check_keys(file, ["presets.augment=none"])
    file.write_text(yaml.safe_dump(comparison.config(comparison.parsed(["--recipe", "sgd"]))))
    comparison._check_keys(file, [])


def test_another_budget_or_other_folds_make_new_masks(
    comparison: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparison, "topology", lambda given, place, number: {"kernels": number})
    place = comparison.Place("comparison_x")

    def digest(*options: str, volumes: str = "v", train: str = "ba", selection: str = "c") -> str:
        fold = Fold(tuple(train), tuple(selection), ("d",))
        write_folds(Folds((fold,), (), volumes), paths.folds(place.results))
        found: str = comparison.fingerprints(comparison.parsed([*options]), place)["0"]
        return found

    first = digest()
    assert digest("--write") == first
    # Which of the cases select this project's weights is nothing to nnU-Net.
    assert digest("--selection", "0", train="abc", selection="") == first
    assert digest(train="ac", selection="b") == first
    others = [digest("--steps", "3"), digest("--mirroring"), digest(volumes="w")]
    others += [digest(train="a"), digest(train="abe")]
    monkeypatch.setattr(comparison, "topology", lambda given, place, number: {"kernels": 9})
    others.append(digest())
    assert first not in others
    assert len(set(others)) == len(others)


def test_a_folds_file_says_how_many_folds_there_are(
    comparison: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    place = comparison.Place("comparison_x")
    folds = tuple(Fold(("a",), (), (case,)) for case in "bcd")
    write_folds(Folds(folds, (), "v"), paths.folds(place.results))
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(comparison, "topology", lambda given, place, number: {})
    monkeypatch.setattr(comparison, "child", lambda *parts: done.append((parts[1], *parts[3])))
    given = comparison.parsed(["folds.folds_file=ours.json"])
    comparison.predict_theirs(given, place, [])
    assert done == [("prepare",), *(("nnunet", "--fold", number) for number in "012")]
    for name in ("_limits", "_precision"):
        monkeypatch.setattr(comparison, name, lambda place: "")
    for name in ("_differences", "_by_case"):
        monkeypatch.setattr(comparison, name, lambda cases: [])
    monkeypatch.setattr(comparison.page, "machine", lambda packages: "")
    assert "Each of 3 folds: " in comparison.section(given, place, pl.DataFrame())


def test_a_recipe_changes_this_projects_side_alone(
    comparison: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, sgd = (comparison.parsed(["--recipe", name]) for name in ("own", "sgd"))
    assert comparison.parsed([]) == own
    file = tmp_path / "sgd.yaml"
    file.write_text(yaml.safe_dump(comparison.config(sgd)), encoding="utf-8")
    experiment = resolve(str(file))
    assert experiment.training.optimizer == "sgd"
    assert experiment.training.learning_rate == 0.01
    assert experiment.models["dynunet"].deep_supervision
    variants = ([], ["--selection", "0"], ["--selection", "0", "--recipe", "sgd"])
    names = [comparison._variant(comparison.parsed(options)) for options in variants]
    assert names == ["", "_selection0", "_selection0_recipesgd"]
    places = [comparison.Place("comparison_x", name) for name in names]
    assert len({place.folder for place in places}) == 1, "nnU-Net's masks are those of all"
    assert len({place.results for place in places}) == 3


@pytest.mark.parametrize(
    ("trained", "said"),
    [
        (["bfloat16", "bfloat16"], "bfloat16"),
        (["float32", "float32"], "float32"),
        (["float32", "bfloat16"], "bfloat16 and float32"),
    ],
)
def test_the_precision_is_that_of_the_runs(
    comparison: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    trained: list[str],
    said: str,
) -> None:
    place = comparison.Place("comparison_x")
    runs = [RunKey("dynunet", loss, 0, 0) for loss in comparison.LOSSES]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minivess.steps.runs.experiment_runs", lambda root: runs)
    for run, precision in zip(runs, trained, strict=True):
        facts = {"params": {"sys_precision": precision}}
        output.write_json(facts, paths.run_provenance(place.results, run))
    assert comparison._precision(place) == said


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], []),
        (["--steps", "3"], []),
        (["--selection", "0", "--recipe", "sgd"], ["--selection 0", "--recipe sgd"]),
    ],
)
def test_a_section_names_what_makes_this_side_another(
    comparison: ModuleType, options: list[str], found: list[str]
) -> None:
    assert comparison._special(comparison.parsed(options)) == found


def test_what_chooses_the_weights_is_said(comparison: ModuleType) -> None:
    assert "(0.2 of those to train on" in comparison._selection(comparison.parsed([]))
    text = comparison._selection(comparison.parsed(["--selection", "0"]))
    assert text.startswith("Both sides train on all cases")


def test_nnunets_network_is_that_of_this_projects_side(
    comparison: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels and strides follow from the spacing of the cases that this side trains on."""
    spacings = {"a": (0.6, 0.6, 5.0), "b": (2.5, 2.5, 5.0), "c": (1.0, 1.0, 5.0)}
    monkeypatch.setattr(
        "minivess.data.preprocess.open_case",
        lambda folder: SimpleNamespace(spacing_um=spacings[folder.name]),
    )
    given, networks = comparison.parsed([]), []
    for train in ("ab", "abc"):
        folds = Folds((Fold(tuple(train), (), ("d",)),), (), "v")
        monkeypatch.setattr(comparison, "read_folds", lambda path, folds=folds: folds)
        networks.append(comparison.topology(given, comparison.Place("comparison_x"), 0))
    for network, spacing in zip(networks, (1.55, 1.0), strict=True):
        kernels, strides = kernels_and_strides((spacing, spacing, 5.0), len(given.filters))
        assert network["kernel_sizes"] == [list(kernel[::-1]) for kernel in kernels]
        assert network["strides"] == [list(stride[::-1]) for stride in strides]
    assert networks[0] != networks[1]


def test_differences_are_paired_by_case(comparison: ModuleType) -> None:
    rows: list[dict[str, object]] = []
    for number, case in enumerate("abcdef"):
        for model, loss, more in (
            ("dynunet", "cbdice_cldice", 0.1 + 0.01 * number),
            ("dynunet", "dice_ce", 0.0),
            (*comparison.THEIRS, 0.0),
        ):
            values = [
                MetricValue(name, 0.1 * number + more, METRICS[name].unit, "ok")
                for name in comparison.METRICS
            ]
            rows += case_rows("x", RunKey(model, loss, 0, number % 2), case, values)
    cases = tables.from_rows("cases", rows)
    text = "\n".join(comparison._differences(cases))
    assert "| `cbdice_cldice` | 0.375 | 0.375 | 0.375 |" in text
    assert "| nnU-Net | 0.250 | 0.250 | 0.250 |" in text
    assert "| `cbdice_cldice`, Dice | +0.125 [+0.1" in text
    assert "| `dice_ce`, clDice | +0.000 " in text
    by_case = comparison._by_case(cases)
    assert by_case[0].endswith("nnU-Net: Dice / clDice / MASD, µm |")
    assert by_case[2].startswith("| 0 | a | 0.100 / 0.100 / 0.100 | 0.000 / 0.000 / 0.000 |")
    assert cases.select(pl.col("case").n_unique()).item() == len(by_case) - 2


def test_a_key_is_not_taken_for_the_page(comparison: ModuleType) -> None:
    with pytest.raises(SystemExit):
        comparison.parsed(["--write", "data.source=csv"])
