from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from safetensors.numpy import save_file

from minivess.data.geometry import Geometry
from minivess.data.volume import write_volume
from minivess.reproducibility.difference import KINDS, arrays_differ, difference


def pair(folder: Path, name: str) -> tuple[Path, Path]:
    paths = folder / "one" / name, folder / "two" / name
    for path in paths:
        path.parent.mkdir(exist_ok=True)
    return paths


def json_pair(folder: Path) -> str:
    one, two = pair(folder, "run.json")
    one.write_text(json.dumps({"a": [1, {"b": 2}], "c": 0}), encoding="utf-8")
    two.write_text(json.dumps({"a": [1, {"b": 3}], "c": 0}), encoding="utf-8")
    assert difference(one, two) == "a.1.b: 2 against 3"
    two.write_text(json.dumps({"a": [1, {"b": 2}]}), encoding="utf-8")
    return difference(one, two)


def parquet_pair(folder: Path) -> str:
    one, two = pair(folder, "cases.parquet")
    table = pl.DataFrame({"case": ["a", "b", "c"], "value": [1.0, None, 3.0]})
    table.write_parquet(one)
    table.head(2).write_parquet(two)
    assert difference(one, two) == "3 rows against 2"
    table.rename({"value": "dice"}).write_parquet(two)
    assert difference(one, two).startswith("columns ")
    table.with_columns(value=pl.Series([1.0, 2.0, 4.0])).write_parquet(two)
    return difference(one, two)


def npy_pair(folder: Path) -> str:
    one, two = pair(folder, "image.npy")
    array = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    np.save(one, array)
    np.save(two, array + np.float32([0, 0, 0.5]))
    return difference(one, two)


def grid(z_um: float) -> Geometry:
    return Geometry((3, 4, 2), np.diag([1.0, 1.0, z_um, 1.0]))


def nifti_pair(folder: Path) -> str:
    one, two = pair(folder, "a.nii.gz")
    mask = np.zeros((3, 4, 2), dtype=np.uint8)
    write_volume(mask, one, grid(5.0))
    write_volume(mask, two, grid(4.0))
    assert difference(one, two) == "the headers"
    mask[0, 0, 0] = 1
    write_volume(mask, two, grid(5.0))
    return difference(one, two)


def safetensors_pair(folder: Path) -> str:
    one, two = pair(folder, "weights.safetensors")
    tensors = {"a": np.zeros(2, np.float32), "b": np.zeros(3, np.float32)}
    save_file(tensors, one)
    save_file({"a": tensors["a"]}, two)
    assert difference(one, two) == "tensors ['b'] are in one of them only"
    save_file({**tensors, "b": np.float32([0, 0, 0.25])}, two)
    return difference(one, two)


def png_pair(folder: Path) -> str:
    one, two = pair(folder, "figure.png")
    pixels = np.zeros((2, 2), np.uint8)
    Image.fromarray(pixels).save(one)
    pixels[1, 1] = 9
    Image.fromarray(pixels).save(two)
    return difference(one, two)


def text_pair(folder: Path) -> str:
    one, two = pair(folder, "summary.txt")
    one.write_text("a\nb\n", encoding="utf-8")
    two.write_text("a\nb\nc\n", encoding="utf-8")
    assert difference(one, two) == "2 lines against 3"
    two.write_text("a\nB\n", encoding="utf-8")
    return difference(one, two)


def other_pair(folder: Path) -> str:
    one, two = pair(folder, "figure.pdf")
    one.write_bytes(b"%PDF-1.4")
    two.write_bytes(b"%PDF-1.7!")
    return difference(one, two)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (json_pair, "c: 0 against nothing"),
        (parquet_pair, "column value, 2 of 3 rows, first row 1: None against 2.0"),
        (npy_pair, "2 of 6 values, by at most 0.5"),
        (nifti_pair, "1 of 24 values, by at most 1"),
        (safetensors_pair, "1 of 2 tensors, first b: 1 of 3 values, by at most 0.25"),
        (png_pair, "1 of 4 values, by at most 9"),
        (text_pair, "line 2: b against B"),
        (other_pair, "8 bytes against 9, first different byte 7"),
    ],
)
def test_what_differs_is_said_in_the_terms_of_the_file(
    make: object, said: str, tmp_path: Path
) -> None:
    assert callable(make)
    assert make(tmp_path) == said


def test_equal_bytes_do_not_differ(tmp_path: Path) -> None:
    one, two = pair(tmp_path, "a.json")
    for path in (one, two):
        path.write_text("{}", encoding="utf-8")
    assert difference(one, two) == ""


def test_the_same_content_in_other_bytes_is_still_a_difference(tmp_path: Path) -> None:
    one, two = pair(tmp_path, "a.json")
    one.write_text('{"a": 1}', encoding="utf-8")
    two.write_text('{"a":1}', encoding="utf-8")
    assert difference(one, two).startswith("the same content in other bytes: 8 bytes against 7")


@given(hnp.arrays(np.float64, st.integers(1, 6)), st.data())
def test_one_changed_value_is_found(array: np.ndarray, data: st.DataObject) -> None:
    assert arrays_differ(array, array.copy()) == ""  # NaN equals NaN
    changed = array.copy()
    index = data.draw(st.integers(0, array.size - 1))
    changed[index] = 1.0 if array[index] != 1.0 else 2.0
    assert arrays_differ(array, changed).startswith(f"1 of {array.size} values")


def test_every_kind_of_result_has_a_comparison() -> None:
    endings = {".json", ".parquet", ".npy", ".nii.gz", ".safetensors", ".png", ".svg", ".html"}
    assert endings <= KINDS.keys()
