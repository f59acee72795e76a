from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_bundle import make_bundle

from minivess import paths
from minivess.deploy.bundle import read_bundle
from minivess.errors import MinivessError


def change(folder: Path, **values: Any) -> None:
    path = paths.bundle_record(folder)
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, **values}), encoding="utf-8")


def refused(folder: Path) -> MinivessError:
    with pytest.raises(MinivessError) as caught:
        read_bundle(folder)
    return caught.value


def test_a_bundle_comes_back_as_it_was_written_wherever_it_lies(tmp_path: Path) -> None:
    made = make_bundle(tmp_path / "one")
    assert read_bundle(tmp_path / "one") == made
    moved = read_bundle((tmp_path / "one").rename(tmp_path / "two"))
    assert moved.digest == made.digest
    assert moved.model == tmp_path / "two" / "model.onnx"
    assert str(tmp_path) not in paths.bundle_record(tmp_path / "two").read_text(encoding="utf-8")


def test_another_network_is_another_digest(tmp_path: Path) -> None:
    one = make_bundle(tmp_path / "one")
    two = make_bundle(tmp_path / "two", weights_sha256="1" * 64)
    assert one.digest != two.digest


def test_there_is_none(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert error.code == "MV-STATE-002"
    assert "deploy" in error.fix


@pytest.mark.parametrize("name", ["model.onnx", "README.md", "parity.json"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    make_bundle(tmp_path)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    error = refused(tmp_path)
    assert error.code == "MV-STATE-005"
    assert name in error.where


@pytest.mark.parametrize("name", ["model.onnx", "README.md", "parity.json"])
def test_a_lost_file_is_refused(tmp_path: Path, name: str) -> None:
    make_bundle(tmp_path)
    (tmp_path / name).unlink()
    assert refused(tmp_path).code == "MV-STATE-005"


def test_a_network_without_a_digest_is_refused(tmp_path: Path) -> None:
    make_bundle(tmp_path)
    change(tmp_path, files={})
    assert refused(tmp_path).code == "MV-STATE-005"


def test_files_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    make_bundle(tmp_path / "inner")
    outside = tmp_path / "secret"
    outside.write_text("x", encoding="utf-8")
    record = json.loads(paths.bundle_record(tmp_path / "inner").read_text(encoding="utf-8"))
    from minivess.provenance import file_sha256

    files = {**record["files"], "../secret": file_sha256(outside)}
    change(tmp_path / "inner", files=files)
    assert refused(tmp_path / "inner").code == "MV-STATE-005"


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"unknown": 1}, "unknown"),
        ({"format": 2}, "format"),
        ({"threshold": 2}, "threshold"),
        ({"window": [16, 16]}, "window"),
        ({"spacing_um": [1, 1, 0]}, "spacing_um"),
        ({"overlap": 1}, "overlap"),
        ({"files": {"model.onnx": "abc"}}, "files"),
    ],
)
def test_a_record_that_says_nonsense_is_refused(
    tmp_path: Path, values: dict[str, Any], word: str
) -> None:
    make_bundle(tmp_path)
    change(tmp_path, **values)
    error = refused(tmp_path)
    assert error.code == "MV-STATE-003"
    assert word in error.found


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    make_bundle(tmp_path)
    paths.bundle_record(tmp_path).write_text(text, encoding="utf-8")
    assert refused(tmp_path).code == "MV-STATE-003"
