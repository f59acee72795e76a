"""Results that something has damaged are named, with the way out: no defect of MiniVess."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from minivess import output, paths
from minivess.data.manifest import read_manifest
from minivess.data.preprocess import IMAGE, LABEL, open_case
from minivess.data.problem import warning_texts
from minivess.errors import MinivessError
from minivess.inference.ensemble import read_member
from minivess.inference.predict import load_network
from minivess.statistics import tables
from minivess.steps import analyze, data
from minivess.steps.champion import read_champions
from minivess.types import RunKey

RUN, CASE = RunKey("tiny", "dice_ce", 0, 0), "phantom_001"


def champions(root: Path) -> Path:
    read_champions(root)
    return paths.champions(root)


def network(root: Path) -> Path:
    folder = paths.run_folder(root, RUN)
    load_network(folder)
    return paths.run_record(folder)


def member(root: Path) -> Path:
    folder = paths.run_folder(root, RUN)
    read_member(folder, "a")
    return paths.run_record(folder)


def manifest(root: Path) -> Path:
    read_manifest(paths.manifest(root))
    return paths.manifest(root)


def validation(root: Path) -> Path:
    data.accept_cases(root)
    return paths.validation_table(root)


def warnings(root: Path) -> Path:
    warning_texts(paths.validation_table(root))
    return paths.validation_table(root)


def image(root: Path) -> Path:
    open_case(paths.preprocessed_case(root, CASE))
    return paths.preprocessed_case(root, CASE) / IMAGE


def label(root: Path) -> Path:
    open_case(paths.preprocessed_case(root, CASE))
    return paths.preprocessed_case(root, CASE) / LABEL


def history(root: Path) -> Path:
    path = paths.history(paths.run_folder(root, RUN))
    tables.read("history", path)
    return path


@pytest.mark.parametrize(
    "read", [champions, network, member, manifest, validation, warnings, image, label, history]
)
def test_a_damaged_file_is_named(root: Path, read: Callable[[Path], Path]) -> None:
    if read in (validation, warnings):
        data.validate_cases(root)
    path = read(root)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(MinivessError) as caught:
        read(root)
    assert (caught.value.code, caught.value.where) == ("MV-STATE-003", str(path))
    assert caught.value.fix == "delete the file and run the experiment again"


def test_a_prediction_that_is_not_there_is_made_not_excluded(root: Path) -> None:
    path = paths.prediction(paths.run_folder(root, RUN), CASE)
    path.unlink(missing_ok=True)
    with pytest.raises(MinivessError) as caught:
        analyze.evaluate(root, RUN, CASE)
    assert (caught.value.code, caught.value.where) == ("MV-STATE-002", str(path))
    output.write_text("not a volume", path)
    with pytest.raises(MinivessError) as caught:
        analyze.evaluate(root, RUN, CASE)
    assert (caught.value.code, caught.value.where) == ("MV-STATE-003", str(path))
    assert "exclude" not in caught.value.fix
