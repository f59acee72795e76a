"""The same volume in two sets is found whatever became of its file; so is the same origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tifffile

from minivess.config.schema import DataConfig
from minivess.data.geometry import Geometry
from minivess.data.leakage import leaks
from minivess.data.manifest import build_manifest
from minivess.data.sources import SourceCase
from minivess.data.volume import write_volume

SHAPE = (10, 8, 4)


def saved(folder: Path, name: str, seed: int, **options: object) -> SourceCase:
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    geometry = Geometry(SHAPE, np.diag([1.0, 1.0, 5.0, 1.0]), 1.0)
    files = [folder / f"{name}.nii.gz", folder / f"{name}_y.nii.gz"]
    write_volume(rng.integers(0, 255, SHAPE).astype(np.uint8), files[0], geometry)
    write_volume((rng.random(SHAPE) > 0.8).astype(np.uint8), files[1], geometry)
    return SourceCase(name, files[0], files[1], name, **options)  # type: ignore[arg-type]


def manifest(*cases: SourceCase, **data: object) -> pl.DataFrame:
    return build_manifest(list(cases), DataConfig(**data))  # type: ignore[arg-type]


@pytest.fixture
def own(tmp_path: Path) -> pl.DataFrame:
    cases = [saved(tmp_path / "own", "a", 1), saved(tmp_path / "own", "b", 2, locked=True)]
    return manifest(*cases, origin="here", source="csv")


def test_other_volumes_of_another_laboratory_are_no_problem(own, tmp_path):
    other = manifest(saved(tmp_path / "x", "a", 3), origin="there", source="csv")
    assert list(leaks(own, other)) == []


@pytest.mark.parametrize(("seed", "name"), [(1, "a"), (2, "b")])
def test_the_same_voxels_are_an_error_also_as_another_file(own, tmp_path, seed, name):
    """A TIFF of wider integers, under another name: no byte of the file is the same."""
    folder = tmp_path / "x"
    case = saved(folder, "other", seed)
    array = np.random.default_rng(seed).integers(0, 255, SHAPE).astype(np.uint8)
    stack = array.transpose(2, 1, 0).astype(np.uint16)
    tifffile.imwrite(folder / "other.tif", stack, photometric="minisblack")
    as_tiff = SourceCase("renamed", folder / "other.tif", case.label, "renamed")
    other = manifest(as_tiff, origin="there", source="csv", spacing_um=(1.0, 1.0, 5.0))
    (problem,) = leaks(own, other)
    assert (problem.case, problem.severity, problem.code) == ("renamed", "error", "MV-DATA-018")
    assert f"own/{name}.nii.gz" in problem.found
    assert "exclude: [renamed]" in problem.fix


def test_a_shared_origin_is_a_warning(own, tmp_path):
    cases = [saved(tmp_path / "x", "c", 3, origin="here"), saved(tmp_path / "x", "d", 4)]
    (problem,) = leaks(own, manifest(*cases, source="csv"))
    assert (problem.severity, problem.code) == ("warning", "MV-DATA-019")
    assert problem.found == "both have cases of here"


def test_an_origin_that_nobody_declared_is_a_warning_of_its_own(own, tmp_path):
    (problem,) = leaks(own, manifest(saved(tmp_path / "x", "c", 3), source="csv"))
    assert problem.code == "MV-DATA-019"
    assert problem.found == "no origin declared for cases of the external data"


def test_the_list_of_cases_goes_before_the_config_and_the_layout_says_whose_it_is(tmp_path):
    cases = [saved(tmp_path / "x", "c", 3, origin="here"), saved(tmp_path / "x", "d", 4)]
    assert manifest(*cases, origin="there")["origin"].to_list() == ["here", "there"]
    assert manifest(*cases, source="minivess")["origin"].to_list() == ["here", "MiniVess"]
    assert manifest(*cases, source="csv")["origin"].to_list() == ["here", None]
