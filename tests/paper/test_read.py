"""Reading the tables of an experiment and setting their numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivess import output, paper, paths
from minivess.config.schema import StatisticsConfig
from minivess.errors import MinivessError
from minivess.statistics.resampling import sample, sign_flip_p


def test_default_folder_and_variable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(paper.VARIABLE, str(root))
    assert paper.read_results().folder == root
    assert Path("../results/demo") == paper.DEFAULT


def test_every_source_is_needed(root: Path, tmp_path: Path) -> None:
    """Whatever is missing, the error names it."""
    for source in paper.sources(root):
        copied = tmp_path / source.stem / "demo"
        shutil.copytree(root, copied)
        (copied / source.relative_to(root)).unlink()
        with pytest.raises(MinivessError) as caught:
            paper.read_results(copied)
        assert caught.value.code == "MV-STATE-002"
        assert caught.value.found == f"missing: {source.relative_to(root).as_posix()}"
        assert "demo" in caught.value.fix


def test_predictions_of_ensembles_are_counted(root: Path) -> None:
    results = paper.read_results(root)
    model, loss = results.arms[0]["model"], results.arms[0]["loss"]
    cases = results.tables["cases"]
    own = cases.filter((cases["model"] == model) & (cases["loss"] == loss))
    ensembles = own.with_columns(model=pl.lit(f"{model}+mean"))
    arms = [*results.arms, {**results.arms[0], "model": f"{model}+mean"}]
    numbers, read = {**results.numbers, "arms": arms}, {**results.tables, "ensembles": ensembles}
    lines = paper.status_table(paper.Results(root, results.config, numbers, read)).splitlines()
    counts = [line.split("|")[2:] for line in lines]
    assert counts[-1] == counts[2]
    assert f"{model}+mean" in lines[-1]


def test_no_interval(root: Path) -> None:
    assert paper.interval({"ci_low": None, "ci_high": None}) == "(no interval)"


@given(st.floats(-1e4, 1e4))
def test_signed_keeps_the_value(value: float) -> None:
    shown = paper.signed(value)
    assert float(shown.replace("−", "-")) == pytest.approx(value, rel=1e-3, abs=6e-4)
    assert "-" not in shown
    assert shown[0] == "+" or value <= 0 or shown.startswith("0")


@pytest.mark.parametrize(("n_cases", "resamples"), [(3, 9999), (6, 49), (10, 1023), (10, 1022)])
def test_smallest_p_is_what_the_test_gives(root: Path, n_cases: int, resamples: int) -> None:
    """Differences of one sign are as extreme as can be."""
    settings = StatisticsConfig(permutation_resamples=resamples)
    results = paper.read_results(root)
    config = results.config.model_copy(update={"statistics": settings})
    changed = paper.Results(root, config, {**results.numbers, "n_units": n_cases}, results.tables)
    observed = sign_flip_p(sample(np.arange(1.0, n_cases + 1)), settings)
    smallest = paper.smallest_p(changed)
    assert observed >= smallest - 1e-12
    if 2**n_cases <= resamples + 1:
        assert observed == pytest.approx(smallest)


def test_leading_arm(root: Path) -> None:
    results = paper.read_results(root)
    values = [arm["metrics"]["dice"]["mean"] for arm in results.arms]
    word, arm = paper.leading_arm(results, "dice")
    assert (word, arm["metrics"]["dice"]["mean"]) == ("highest", max(values))
    word, arm = paper.leading_arm(results, "masd_um")
    distances = [arm["metrics"]["masd_um"]["mean"] for arm in results.arms]
    assert (word, arm["metrics"]["masd_um"]["mean"]) == ("lowest", min(distances))
    assert paper.leading_arm(results, "volume_fraction") == ("first listed", results.arms[0])


def test_missing_parameter(root: Path) -> None:
    results = paper.read_results(root)
    assert paper.parameter(results, "dynunet", "arch_kernels") == ["3x3x1 3x3x3"]
    with pytest.raises(MinivessError, match="arch_depth") as caught:
        paper.parameter(results, "dynunet", "arch_depth")
    assert caught.value.code == "MV-STATE-002"


def test_a_source_outside_the_bibliography(tmp_path: Path) -> None:
    bibliography = tmp_path / "references.bib"
    bibliography.write_text("@misc{a, doi={10.1000/x1}}\n\n@misc{b, eprint={2003.07311}}\n")
    assert paper.citation("clDice, arXiv:2003.07311", bibliography) == "[@b]"
    assert paper.citation("doi 10.1000/X1", bibliography) == "[@a]"
    assert paper.citation("definition", bibliography) == "definition"
    with pytest.raises(MinivessError, match=r"2407\.01517") as caught:
        paper.citation("arXiv:2407.01517", bibliography)
    assert caught.value.code == "MV-CONFIG-003"


def test_lock_file(tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    folder.mkdir()
    with pytest.raises(MinivessError) as caught:
        paper.lock_digest(folder)
    assert caught.value.code == "MV-DATA-001"
    output.write_text("a", tmp_path / "uv.lock")
    above = paper.lock_digest(folder)
    output.write_text("b", folder / "uv.lock")
    assert paper.lock_digest(folder) != above


def test_summary_is_read_as_written(root: Path) -> None:
    written = json.loads(paths.summary(root).read_text(encoding="utf-8"))
    assert paper.read_results(root).numbers == written
