"""The benchmark of the metrics on a small phantom, and the page that it writes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module benchmarks/metrics.py, as it is where it runs: its folder is on the path."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("benchmark_metrics", FOLDER / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name], sys.modules["page"]


@pytest.fixture
def page(benchmark: ModuleType) -> ModuleType:
    module: ModuleType = benchmark.page
    return module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "metrics.py"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_both_sides_agree_and_the_page_says_so(tmp_path: Path) -> None:
    target = tmp_path / "benchmarks.md"
    small = ["--shape", "48", "48", "12", "--trees", "3", "--runs", "1"]
    done = run(*small, "--write", str(target))
    assert done.returncode == 0, done.stdout + done.stderr
    text = target.read_text(encoding="utf-8")
    assert "All 41 metrics of a pair of 48 x 48 x 12 voxels" in text
    assert "34 of the 34 metrics that have one definition are equal to 1e-06" in text
    assert "| usual libraries |" in text
    assert "- surface-distance, HD95 and surface Dice: " in text
    assert "voxels by persistent homology: " in text
    assert ", the same; the panel's function alone" in text
    assert str(tmp_path) not in text


def test_a_section_is_replaced_where_it_stands(page: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    page.write_section(path, "one", "## One\n\nfirst", "just bench one")
    page.write_section(path, "two", "## Two\n\nother", "just bench two")
    before = path.read_text(encoding="utf-8")
    page.write_section(path, "one", "## One\n\nsecond", "just bench one")
    assert path.read_text(encoding="utf-8") == before.replace("first", "second")
    assert before.startswith(page.HEADING.rstrip())
    assert before.index("## One") < before.index("Made with `just bench one`.")
    assert before.index("Made with `just bench one`.") < before.index("## Two")


def test_a_section_is_made_again_with_its_command(page: ModuleType) -> None:
    options = ["--write", "page.md", "--runs", "3", "--write", "--shape", "8", "8", "4"]
    assert page.command("metrics", options) == "just bench metrics --runs 3 --shape 8 8 4"
    assert page.command("patches", ["--write=page.md"]) == "just bench patches"
    files = ["data.path=/data/cases.csv", "data.vessel_labels=[254,255]", "--mask", "/data/m.npy"]
    assert page.command("x", files) == (
        "just bench x data.path=cases.csv 'data.vessel_labels=[254,255]' --mask m.npy"
    )


def test_a_section_without_its_end_is_an_error(page: ModuleType) -> None:
    with pytest.raises(ValueError, match="the section one has no line"):
        page.with_section("# Page\n\n<!-- begin one -->\n\n## One\n", "one", "## One")


def test_other_values_are_noticed(benchmark: ModuleType) -> None:
    values = {"dice": 0.5, "hd_um": 2.0, "ace": 0.1, "betti0": 0.0}
    other = {"dice": 0.5 + 1e-8, "hd_um": 2.0, "ace": 0.2, "betti0": 0.0}
    assert benchmark.differing_metrics(values, other) == []  # the definitions of ACE differ
    assert benchmark.differing_metrics(values, {**other, "hd_um": 2.00001}) == ["hd_um"]
    assert benchmark.differing_metrics(values, {**other, "betti0": 1.0}) == ["betti0"]
    with pytest.raises(ValueError, match="one side lacks"):
        benchmark.compare(values, {"dice": 0.5, "ace": 0.1, "betti0": 0.0})


@pytest.mark.parametrize("name", ["mask.npy", "mask.nii.gz"])
def test_the_pair_is_made_from_a_mask(tmp_path: Path, name: str) -> None:
    mask = np.zeros((30, 20, 12), dtype=np.uint8)
    mask[:, 6:13, 3:9] = 1
    if name.endswith(".npy"):
        np.save(tmp_path / name, mask)
    else:
        nibabel.save(nibabel.Nifti1Image(mask, np.diag([3.0, 2.0, 1.0, 1.0])), tmp_path / name)
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        given = ("--mask", str(tmp_path / name), "--folder", str(tmp_path / folder))
        assert run(*given, "--part", "prepare").returncode == 0
    arrays = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert arrays == {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()}
    assert np.array_equal(np.load(tmp_path / "first" / "reference.npy"), mask > 0)
    prediction = np.load(tmp_path / "first" / "prediction.npy")
    assert (prediction & (mask == 0)).any()
    assert (~prediction & (mask > 0)).any()
    about = json.loads((tmp_path / "first" / "about.json").read_text(encoding="utf-8"))
    spacing = [0.994, 0.994, 2.0] if name.endswith(".npy") else [3.0, 2.0, 1.0]
    assert about["spacing_um"] == spacing
