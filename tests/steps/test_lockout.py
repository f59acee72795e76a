"""Labels of locked test cases: no step opens them, whatever the source and whatever lies there."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from minivess import paths, workflow
from minivess.config.schema import Experiment, FoldsConfig, PhantomConfig
from minivess.data.folds import make_folds
from minivess.data.manifest import read_label, read_manifest
from minivess.data.phantom import write_phantom
from minivess.data.sources import list_cases, made_files, source_files
from minivess.data.unpack import unpack_source
from minivess.errors import MinivessError
from minivess.steps import analyze, data

from .conftest import LOCKED, configured, make_data

SHAPE = PhantomConfig(n_cases=5, phantom_shape=(16, 16, 8))
_OPENED: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _OPENED is not None and event == "open" and isinstance(arguments[0], str | bytes | Path):
        _OPENED.append(str(arguments[0]))


@contextmanager
def opened() -> Iterator[list[str]]:
    """Names of all files that Python opens in the block."""
    global _OPENED  # noqa: PLW0603 - an audit hook cannot be removed again
    if not getattr(sys, "_minivess_hook", False):
        sys.addaudithook(_hook)
        sys._minivess_hook = True  # type: ignore[attr-defined]
    _OPENED = []
    try:
        yield _OPENED
    finally:
        _OPENED = None


def csv_of(folder: Path) -> Path:
    """Five phantoms as the user's own files; garbage where the locked label should be."""
    write_phantom(SHAPE, folder)
    (folder / "labels" / f"{LOCKED}.nii.gz").write_bytes(b"not yet")
    return folder / "cases.csv"


def test_no_step_opens_a_locked_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = csv_of(tmp_path / "scans")
    configured(tmp_path, data={"source": "csv", "path": "scans/cases.csv"})
    root = Path("results/small")
    with opened() as files:
        plan = workflow.plan_experiment({"experiment": "small.yaml"}, tmp_path, dry_run=True)
        make_data(root)
        analyze.baseline(root)
    labels = {Path(name).name for name in files if "scans/labels" in name}
    assert labels == {f"phantom_00{number}.nii.gz" for number in (1, 2, 3, 4)}
    assert {Path(name).name for name in files if "scans/images" in name} == {
        *labels,
        f"{LOCKED}.nii.gz",
    }
    assert source in [path.absolute() for path in plan.source_files]
    assert {path.name for path in plan.source_files if path.parent.name == "labels"} == labels
    row = read_manifest(paths.manifest(root)).to_dicts()[-1]
    assert (row["case"], row["locked"], row["label_read_error_code"]) == (LOCKED, True, "")
    known = ("label_sha256", "label_md5", "label_shape", "label_values", "vessel_fraction")
    assert [row[name] for name in (*known, "n_components", "label_affine")] == [None] * 7
    page = paths.validation_page(root).read_text(encoding="utf-8")
    assert "locked away: a test case" in page
    assert page.count('class="outline"') == 4


def test_an_unlocked_one_would_have_been_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    csv_of(tmp_path / "scans")
    unlocked = {"n_folds": 2}
    configured(tmp_path, data={"source": "csv", "path": "scans/cases.csv"}, folds=unlocked)
    with pytest.raises(MinivessError) as caught:
        make_data(Path("results/small"))
    assert caught.value.code == "MV-DATA-017"
    assert f"labels/{LOCKED}.nii.gz" in caught.value.found


def test_preprocessing_a_locked_case_is_refused(root: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        data.preprocess(root, LOCKED)
    assert (caught.value.code, caught.value.exit_status) == ("MV-LOCK-001", 9)
    assert not (paths.preprocessed_case(root, LOCKED) / "label.npy").exists()


def test_reading_a_locked_label_is_refused_before_the_file_is_touched() -> None:
    row = {"case": "a", "label": "nowhere.nii.gz", "locked": True}
    with pytest.raises(MinivessError, match="MV-LOCK-001"):
        read_label(row, None)


def test_the_phantom_makes_no_label_of_a_locked_case(root: Path) -> None:
    folder = paths.phantom_folder(root)
    assert len(list((folder / "images").iterdir())) == 5
    assert f"{LOCKED}.nii.gz" not in {path.name for path in (folder / "labels").iterdir()}
    experiment = configured(Path())
    assert folder / "labels" / f"{LOCKED}.nii.gz" not in made_files(experiment, root)
    assert folder / "images" / f"{LOCKED}.nii.gz" in made_files(experiment, root)


def test_folds_are_those_of_the_free_cases_alone(root: Path) -> None:
    manifest = read_manifest(paths.manifest(root))
    config = FoldsConfig(n_folds=2, test_cases=(LOCKED,))
    made = make_folds(manifest, config)
    alone = make_folds(manifest.filter(~manifest["locked"]), FoldsConfig(n_folds=2))
    assert made.folds == alone.folds


def experiment_of(source: str, path: Path, *locked: str) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "x",
            "data": {"source": source, "path": str(path)},
            "folds": {"test_cases": locked},
        }
    )


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    folder = tmp_path / "official"
    write_phantom(SHAPE, tmp_path / "made")
    for kind, below, ending in (("images", "raw", ""), ("labels", "seg", "_y")):
        (folder / below).mkdir(parents=True)
        for number in (1, 2, 3):
            name = f"phantom_00{number}.nii.gz"
            target = folder / below / f"mv0{number}{ending}.nii.gz"
            shutil.copy(tmp_path / "made" / kind / name, target)
    return folder


def test_a_zip_keeps_locked_labels(layout: Path, tmp_path: Path) -> None:
    archive = tmp_path / "minivess.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for file in layout.rglob("*.nii.gz"):
            packed.write(file, file.relative_to(layout))
    experiment = experiment_of("minivess", archive, "mv02")
    root = tmp_path / "results" / "x"
    files = unpack_source(experiment, root)
    assert {path.name for path in files} == {
        *(f"mv0{number}.nii.gz" for number in (1, 2, 3)),
        *(f"mv0{number}_y.nii.gz" for number in (1, 3)),
    }
    assert sorted(files) == sorted(made_files(experiment, root))
    assert sorted(path for path in root.rglob("*.gz")) == sorted(files)


def test_a_folders_locked_labels_are_not_watched(layout: Path, tmp_path: Path) -> None:
    (layout / "dataset.json").write_text("{}", encoding="utf-8")
    experiment = experiment_of("minivess", layout, "mv02")
    names = {path.name for path in source_files(experiment, tmp_path)}
    assert "mv02_y.nii.gz" not in names
    assert {"mv02.nii.gz", "mv01_y.nii.gz"} <= names


def test_a_detached_label_header_is_not_opened(tmp_path: Path) -> None:
    for name in ("a", "b"):
        text = f"ObjectType = Image\nElementDataFile = {name}.raw\n"
        (tmp_path / f"{name}.mhd").write_text(text, encoding="utf-8")
        (tmp_path / f"{name}.raw").touch()
    text = "case,image,label\nfirst,a.mhd,b.mhd\n"
    (tmp_path / "cases.csv").write_text(text, encoding="utf-8")
    experiment = experiment_of("csv", tmp_path / "cases.csv", "first")
    with opened() as files:
        watched = source_files(experiment, tmp_path)
    assert {path.name for path in watched} == {"cases.csv", "a.mhd", "a.raw"}
    assert not [name for name in files if name.endswith("b.mhd")]


def test_a_misspelt_test_case_locks_nothing_and_stops_everything(
    layout: Path, tmp_path: Path
) -> None:
    with pytest.raises(MinivessError) as caught:
        list_cases(experiment_of("minivess", layout, "mv2"), tmp_path)
    assert caught.value.code == "MV-FOLDS-003"
    assert "mv02" in caught.value.fix
