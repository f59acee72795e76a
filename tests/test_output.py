"""Files appear whole or not at all, with equal bytes for equal values."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess import output
from minivess.errors import MinivessError

TABLE = pl.DataFrame({"case": ["a", "b", None], "value": [0.1, float("inf"), 3.0], "n": [1, 2, 3]})


def in_folder(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_text_json_and_tables_can_be_read_back(tmp_path: Path) -> None:
    output.write_text("µ\n", tmp_path / "new" / "folder" / "a.txt")
    assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == b"\xc2\xb5\n"
    output.write_json({"b": [1, 2.5], "a": None}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "a": None,
        "b": [1, 2.5],
    }
    output.write_parquet(TABLE, tmp_path / "a.parquet")
    assert pl.read_parquet(tmp_path / "a.parquet").equals(TABLE)
    assert in_folder(tmp_path) == {"new", "a.json", "a.parquet"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def shuffled(value: Any) -> Any:
    """The same value with the keys of every mapping in reverse order."""
    if isinstance(value, dict):
        return {key: shuffled(entry) for key, entry in reversed(value.items())}
    return [shuffled(entry) for entry in value] if isinstance(value, list) else value


@settings(deadline=None, max_examples=50)
@given(value=JSON)
def test_equal_json_is_equal_bytes(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("json")
    output.write_json(value, folder / "first.json")
    output.write_json(shuffled(value), folder / "second.json")
    first = (folder / "first.json").read_bytes()
    assert first == (folder / "second.json").read_bytes()
    assert json.loads(first) == value
    assert first.endswith(b"\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_json_that_is_none_is_refused_and_leaves_the_old_file(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    output.write_json(1, path)
    with pytest.raises(ValueError, match="JSON compliant"):
        output.write_json({"a": value}, path)
    assert path.read_text(encoding="utf-8") == "1\n"
    assert in_folder(tmp_path) == {"a.json"}


def test_equal_tables_are_equal_bytes_however_they_lie_in_memory(tmp_path: Path) -> None:
    whole = pl.DataFrame({"x": np.arange(5000.0), "name": [f"case{i % 7}" for i in range(5000)]})
    pieces = pl.concat([whole[:10], whole[10:4000], whole[4000:]], rechunk=False)
    assert pieces.n_chunks() == 3
    output.write_parquet(whole, tmp_path / "whole.parquet")
    output.write_parquet(pieces, tmp_path / "pieces.parquet")
    expected = (tmp_path / "whole.parquet").read_bytes()
    assert (tmp_path / "pieces.parquet").read_bytes() == expected
    output.write_parquet(whole.with_columns(x=pl.col("x") + 1), tmp_path / "other.parquet")
    assert (tmp_path / "other.parquet").read_bytes() != expected


@pytest.mark.parametrize("threads", ["1", "8"])
def test_a_tables_bytes_do_not_depend_on_the_process(threads: str, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, polars as pl; from minivess import output; "
        "table = pl.DataFrame({'x': [i / 7 for i in range(3000)], 'y': ['a', 'b', 'c'] * 1000}); "
        "output.write_parquet(table, pathlib.Path(sys.argv[1]))"
    )
    environment = {**os.environ, "POLARS_MAX_THREADS": threads, "PYTHONHASHSEED": threads}
    path = tmp_path / "there.parquet"
    subprocess.run([sys.executable, "-c", code, str(path)], env=environment, check=True)
    here = pl.DataFrame({"x": [i / 7 for i in range(3000)], "y": ["a", "b", "c"] * 1000})
    output.write_parquet(here, tmp_path / "here.parquet")
    assert path.read_bytes() == (tmp_path / "here.parquet").read_bytes()


def test_an_empty_table_can_be_written(tmp_path: Path) -> None:
    output.write_parquet(TABLE.clear(), tmp_path / "a.parquet")
    assert pl.read_parquet(tmp_path / "a.parquet").equals(TABLE.clear())


def test_the_temporary_file_has_the_suffixes_and_lies_in_the_same_folder(tmp_path: Path) -> None:
    with output.replacing(tmp_path / "a.nii.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"new")
        assert not (tmp_path / "a.nii.gz").exists()
    assert in_folder(tmp_path) == {"a.nii.gz"}


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failure_in_the_block_leaves_the_old_file(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    output.write_text("old", path)

    def write_half() -> None:
        with output.replacing(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text(encoding="utf-8") == "old"
    assert in_folder(tmp_path) == {"a.txt"}


def test_sigkill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    output.write_text("old", path)
    code = (
        "import os, signal, sys, pathlib; from minivess import output\n"
        "with output.replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_text(encoding="utf-8") == "old"
    # The next writer of the file removes the half of it; not that of a process that runs, nor
    # another file that is only called so.
    others = {f".{os.getppid()}.a.txt", ".name.a.txt", ".4194304.b.txt"}
    for name in others:
        (tmp_path / name).write_text("other", encoding="utf-8")
    assert len(in_folder(tmp_path)) == 5
    output.write_text("new", path)
    assert path.read_text(encoding="utf-8") == "new"
    assert in_folder(tmp_path) == {"a.txt"} | others


# a disk that is really full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder, mount = tmp_path / "disk", shutil.which("mount")
    folder.mkdir()
    if mount is None:
        pytest.skip("the program mount is missing")
    command = [mount, "-t", "tmpfs", "-o", "size=64k", "minivess-test", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"the right to mount a tmpfs is missing: {mounted.stderr.strip()}")
    yield folder
    subprocess.run([str(shutil.which("umount")), str(folder)], check=True)


def test_a_full_disk_leaves_the_old_file_and_nothing_else(small_disk: Path) -> None:
    path = small_disk / "a.txt"
    output.write_text("old", path)
    with pytest.raises(MinivessError) as caught:
        output.write_text("x" * 200_000, path)
    assert caught.value.code == "MV-SYSTEM-002"
    assert caught.value.where == str(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert in_folder(small_disk) == {"a.txt"}
    output.write_text("fits again", path)
    assert path.read_text(encoding="utf-8") == "fits again"


def test_a_table_and_a_checkpoint_meet_the_full_disk_the_same_way(small_disk: Path) -> None:
    random = np.random.default_rng(0)
    table = pl.DataFrame({"x": random.random(50_000)})
    with pytest.raises(MinivessError) as caught:
        output.write_parquet(table, small_disk / "a.parquet")
    assert caught.value.code == "MV-SYSTEM-002"
    with (
        pytest.raises(MinivessError) as caught,
        output.replacing(small_disk / "a.npy") as temporary,
    ):
        np.save(temporary, random.random(50_000))
    assert caught.value.code == "MV-SYSTEM-002"
    assert in_folder(small_disk) == set()


def test_a_full_device_is_a_full_disk() -> None:
    """The errno that the kernel gives, without the right to mount."""
    device = Path("/dev/full")
    if not device.is_char_device():
        pytest.skip("the device /dev/full is missing")
    with pytest.raises(OSError, match="space") as caught:  # noqa: SIM117
        with device.open("wb", buffering=0) as handle:
            handle.write(b"x")
    assert caught.value.errno == errno.ENOSPC
    assert output.os_error(caught.value, device).code == "MV-SYSTEM-002"


def test_an_error_without_a_number_is_no_full_disk_where_there_is_space(tmp_path: Path) -> None:
    assert output.os_error(OSError("short write"), tmp_path / "a.npy").code == "MV-SYSTEM-001"


# a folder that cannot be written


def test_a_file_in_place_of_the_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file", encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        output.write_text("x", tmp_path / "results" / "demo" / "a.txt")
    assert caught.value.code == "MV-SYSTEM-001"
    assert str(tmp_path / "results") in caught.value.where
    assert (tmp_path / "results").read_text(encoding="utf-8") == "a file"


def test_a_folder_in_place_of_the_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(MinivessError) as caught:
        output.write_text("x", tmp_path / "a.txt")
    assert caught.value.code == "MV-SYSTEM-001"
    assert in_folder(tmp_path) == {"a.txt"}


def test_a_read_only_disk_is_said(small_disk: Path) -> None:
    output.write_text("old", small_disk / "a.txt")
    command = [str(shutil.which("mount")), "-o", "remount,ro", str(small_disk)]
    remounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if remounted.returncode != 0:
        pytest.skip(f"the right to remount is missing: {remounted.stderr.strip()}")
    with pytest.raises(MinivessError) as caught:
        output.write_text("new", small_disk / "a.txt")
    assert caught.value.code == "MV-SYSTEM-001"
    assert "Read-only" in caught.value.found
    assert (small_disk / "a.txt").read_text(encoding="utf-8") == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every folder")
def test_a_folder_without_the_right_to_write_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MinivessError) as caught:
        output.write_text("x", tmp_path / "a.txt")
    tmp_path.chmod(0o700)
    assert caught.value.code == "MV-SYSTEM-001"
    assert in_folder(tmp_path) == set()


READERS: dict[str, Callable[[Path], object]] = {
    "a.json": output.read_json,
    "a.parquet": output.read_parquet,
    "a.npy": output.read_array,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kept", [0, 1, 40, -20])
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, name: str, kept: int) -> None:
    path = tmp_path / name
    np.save(tmp_path / "a.npy", np.arange(200))
    output.write_json({"a": list(range(50))}, tmp_path / "a.json")
    output.write_parquet(TABLE, tmp_path / "a.parquet")
    READERS[name](path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(MinivessError) as caught:
        READERS[name](path)
    assert (caught.value.code, caught.value.where) == ("MV-STATE-003", str(path))
    assert caught.value.fix == "delete the file and run the experiment again"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_other_bytes_is_damaged(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xff\xfe" * 100)
    with pytest.raises(MinivessError, match="MV-STATE-003"):
        READERS[name](path)


@pytest.mark.parametrize("value", [{}, [], None, {"champion": 1}])
def test_json_without_what_it_has_at_least_is_damaged(tmp_path: Path, value: Any) -> None:
    output.write_json(value, tmp_path / "a.json")
    assert output.read_json(tmp_path / "a.json") == value
    with pytest.raises(MinivessError, match="no champions"):
        output.read_json(tmp_path / "a.json", "champions")
