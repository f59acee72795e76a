"""Files on a command line, with a network that is written down by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from small_bundle import make_bundle, vessel_image

from minivess.data.geometry import Geometry
from minivess.data.volume import read_volume, write_volume
from minivess.errors import MinivessError
from minivess.steps.segment import Request, bundle_folder, open_volume, segment_files


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "bundle")
    return Request(folder=tmp_path / "bundle", threads=1)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("minivess.steps.segment.say", lines.append)
    return lines


def volume(path: Path, spacing: tuple[float, float, float] = (1.0, 1.0, 5.0)) -> Path:
    array = vessel_image()
    x, y, z = array.shape
    write_volume(array, path, Geometry((x, y, z), np.diag([*spacing, 1.0])))
    return path


def refused(path: Path, request: Request, **changes: Any) -> MinivessError:
    with pytest.raises(MinivessError) as caught:
        segment_files(path, replace(request, **changes))
    return caught.value


def test_a_file(request_: Request, tmp_path: Path, said: list[str]) -> None:
    image = volume(tmp_path / "a.nii.gz")
    (mask,) = segment_files(image, request_)
    assert mask == Path("a_vessels.nii.gz")
    found, source = nib.load(mask), nib.load(image)
    np.testing.assert_array_equal(found.affine, source.affine)
    assert found.get_data_dtype() == np.uint8
    assert set(np.unique(np.asarray(found.dataobj))) == {0, 1}
    printed = "\n".join(said)
    for word in ("40 x 33 x 11 voxels of 1 x 1 x 5 um", "Length density", "small balanced"):
        assert word in printed
    assert "guess" not in printed


def test_another_spacing_than_in_training_is_said(
    request_: Request, tmp_path: Path, said: list[str]
) -> None:
    segment_files(volume(tmp_path / "a.nii.gz", (0.3, 0.3, 5.0)), request_)
    assert "trained on 1 x 1 x 5 um" in "\n".join(said)


def test_a_folder_in_which_one_file_is_damaged(request_: Request, tmp_path: Path) -> None:
    folder = tmp_path / "volumes"
    for name in ("a.nii.gz", "c.nii"):
        volume(folder / name)
    (folder / "b.nii.gz").write_bytes(b"no volume")
    (folder / "notes.txt").write_text("not a volume", encoding="utf-8")
    error = refused(folder, request_, out=tmp_path / "masks", probability=True)
    assert error.code == "MV-DATA-002"
    assert "1 of 3 files" in error.what
    assert {file.name for file in (tmp_path / "masks").iterdir()} == {
        f"{name}_{kind}.nii.gz" for name in "ac" for kind in ("vessels", "probability")
    }


def test_a_folder_again_into_itself(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    folder = tmp_path / "volumes"
    for name in ("a.nii.gz", "b.nii", "alone_vessels.nii.gz"):
        volume(folder / name)
    monkeypatch.chdir(folder)
    both = replace(request_, probability=True)
    first = segment_files(Path(), both)
    names = ["a_vessels.nii.gz", "alone_vessels_vessels.nii.gz", "b_vessels.nii.gz"]
    assert [mask.name for mask in first] == names
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert segment_files(Path(), both) == first
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert "6 files left out" in "\n".join(said)
    assert [m.name for m in segment_files(folder, replace(both, out=tmp_path / "m"))] == names


@pytest.mark.parametrize("name", ["a_vessels.nii.gz", "a_probability.nii.gz"])
def test_a_label_of_the_same_name_is_not_written_over(
    request_: Request, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "volumes"
    volume(folder / "a.nii.gz")
    label = volume(folder / name)
    before = label.read_bytes()
    error = refused(folder, request_, out=folder, probability=True)
    assert (error.code, error.where) == ("MV-CONFIG-004", str(label))
    assert label.read_bytes() == before
    assert segment_files(folder, replace(request_, out=tmp_path / "masks"))
    label.write_bytes(b"no volume")
    assert refused(folder, request_, out=folder, probability=True).where == str(label)


def test_probability_and_mask_agree(request_: Request, tmp_path: Path) -> None:
    image = volume(tmp_path / "a.nii")
    segment_files(image, replace(request_, out=tmp_path / "m.nii", probability=True))
    probability = read_volume(tmp_path / "m_probability.nii.gz").array
    np.testing.assert_array_equal(read_volume(tmp_path / "m.nii").array, probability > 0.5)


@pytest.mark.parametrize("out", ["mask.png", "a.nii.gz"])
def test_names_that_cannot_be(request_: Request, tmp_path: Path, out: str) -> None:
    image = volume(tmp_path / "a.nii.gz")
    before = image.read_bytes()
    assert refused(image, request_, out=Path(out)).code == "MV-CONFIG-004"
    assert image.read_bytes() == before


def test_two_files_of_one_name(request_: Request, tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        volume(tmp_path / "volumes" / name)
    error = refused(tmp_path / "volumes", request_)
    assert error.code == "MV-CONFIG-004"
    assert "a.nii and " in error.found
    assert error.found.endswith("a.nii.gz")


@pytest.mark.parametrize("spacing", [(0, 1, 5), (-1, 1, 5), (float("nan"), 1, 5)])
def test_a_spacing_that_is_none(tmp_path: Path, spacing: tuple[float, float, float]) -> None:
    path = volume(tmp_path / "a.nii.gz")
    with pytest.raises(MinivessError) as caught:
        open_volume(path, spacing)
    assert caught.value.code == "MV-CONFIG-002"
    assert caught.value.where == "--spacing-um"


def test_nothing_there(request_: Request, tmp_path: Path) -> None:
    assert refused(tmp_path / "none.nii", request_).code == "MV-DATA-001"
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty", request_).code == "MV-DATA-001"


def test_a_volume_without_spacing_needs_one(request_: Request, tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "a.tif"
    array = np.zeros((4, 5, 6), dtype=np.uint8)
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": "ZYX"})
    error = refused(path, request_)
    assert error.code == "MV-DATA-009"
    assert "--spacing-um" in error.fix
    assert open_volume(path, (0.5, 0.5, 2.0)).geometry.spacing_um == (0.5, 0.5, 2.0)


def test_champions_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MinivessError, match="did you mean balanced"):
        bundle_folder("demo", "balancd")
    with pytest.raises(MinivessError, match="minivess experiment demo deploy"):
        bundle_folder("demo", "balanced")


def test_a_variant_that_is_not_there(request_: Request, tmp_path: Path) -> None:
    error = refused(volume(tmp_path / "a.nii"), request_, variant="int8")
    assert error.code == "MV-CONFIG-003"
    assert "deploy.variants" in error.fix
