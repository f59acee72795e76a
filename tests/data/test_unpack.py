"""Unpacking: nothing outside of the folder, nothing half there, nothing skipped."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from minivess import paths
from minivess.config.schema import DataConfig, Experiment
from minivess.data.sources import list_cases
from minivess.data.unpack import unpack_source, unpack_zip
from minivess.errors import MinivessError

CONTENT = bytes(range(256)) * 400


def archive_of(path: Path, *names: str, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name in names:
            archive.writestr(name, CONTENT)
    return path


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_keep_their_places(tmp_path, compression):
    path = archive_of(tmp_path / "a.zip", "raw/a", "seg/a_y", "json/a", compression=compression)
    files = unpack_zip(path, ["raw/a", "seg/a_y"], tmp_path / "out")
    assert files == [tmp_path / "out/raw/a", tmp_path / "out/seg/a_y"]
    assert files_in(tmp_path / "out") == ["raw/a", "seg/a_y"]
    assert all(file.read_bytes() == CONTENT for file in files)


@pytest.mark.parametrize("name", ["../evil", "raw/../../evil", "/evil", "..\\evil", "C:/evil"])
def test_members_outside_are_refused(tmp_path, name):
    path = archive_of(tmp_path / "a.zip", "raw/mv01.nii.gz", "seg/mv01_y.nii.gz", name)
    with pytest.raises(MinivessError) as caught:
        unpack_zip(path, [name], tmp_path / "out")
    assert caught.value.code == "MV-DATA-002"
    assert "points outside" in caught.value.found
    assert files_in(tmp_path) == ["a.zip"]
    config = Experiment(name="x", data=DataConfig(source="minivess", path=str(path)))
    with pytest.raises(MinivessError, match="points outside"):
        list_cases(config, tmp_path)


def test_missing_member(tmp_path):
    path = archive_of(tmp_path / "a.zip", "raw/a")
    with pytest.raises(MinivessError, match="raw/b") as caught:
        unpack_zip(path, ["raw/b"], tmp_path / "out")
    assert caught.value.code == "MV-DATA-002"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_member_leaves_no_file(tmp_path, compression):
    path = archive_of(tmp_path / "a.zip", "raw/a", compression=compression)
    data = bytearray(path.read_bytes())
    data[60:64] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(data))
    with pytest.raises(MinivessError, match="raw/a") as caught:
        unpack_zip(path, ["raw/a"], tmp_path / "out")
    assert caught.value.code == "MV-DATA-002"
    assert "unpack it yourself" in caught.value.fix
    assert files_in(tmp_path / "out") == []


def test_truncated_zip(tmp_path):
    path = archive_of(tmp_path / "a.zip", "raw/a")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(MinivessError) as caught:
        unpack_zip(path, ["raw/a"], tmp_path / "out")
    assert caught.value.code == "MV-DATA-002"


def test_source_is_unpacked_to_where_its_cases_lie(tmp_path):
    names = [f"d/raw/mv{n:02d}.nii.gz" for n in (1, 2)] + [
        f"d/seg/mv{n:02d}_y.nii.gz" for n in (1, 2)
    ]
    path = archive_of(tmp_path / "a.zip", *names, "d/json/mv01.json")
    config = Experiment(
        name="x", data=DataConfig(source="minivess", path=str(path), exclude=("mv02",))
    )
    root = tmp_path / "results"
    files = unpack_source(config, root)
    (case,) = list_cases(config, root)
    assert files == [case.image, case.label]
    assert all(file.read_bytes() == CONTENT for file in files)
    assert files_in(paths.unpacked_folder(root)) == ["d/raw/mv01.nii.gz", "d/seg/mv01_y.nii.gz"]


def test_other_sources_have_nothing_to_unpack(tmp_path):
    assert unpack_source(Experiment(name="x"), tmp_path) == []
