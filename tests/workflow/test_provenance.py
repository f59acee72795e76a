"""Provenance on the real DAG: records and graph are complete and agree with the digests."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from workbench import Workbench

from minivess import paths
from minivess.reproducibility.digests import read_digests
from minivess.reproducibility.graph import read_graph
from minivess.reproducibility.records import made_files, read_record, record_file

pytestmark = pytest.mark.dag

FIGURE = "results/tiny/figures/paired_cases.svg"
RUN = "runs/tiny/dice_ce/seed0/fold0"


@pytest.fixture
def copy(finished: Workbench, tmp_path: Path) -> Workbench:
    """The finished experiment, to be changed."""
    shutil.copytree(finished.folder, tmp_path / "copy", symlinks=True)
    return Workbench(tmp_path / "copy")


def test_every_file_has_a_record_of_what_it_was_when_it_was_made(finished: Workbench) -> None:
    made = made_files(finished.root)
    digests = read_digests(paths.digests(finished.root))
    assert {name: made[name].digest for name in digests} == digests
    assert not [name for name in digests if name.startswith("logs/")]


def test_the_graph_agrees_with_the_records(finished: Workbench) -> None:
    graph = read_graph(finished.root)
    made = made_files(finished.root)
    declared = {name for job in graph.jobs for name in job.outputs}
    missing = set(read_digests(paths.digests(finished.root)))
    missing -= {Path(name).relative_to(graph.root).as_posix() for name in declared}
    assert not missing
    for job in graph.jobs:
        if job.rule == "report":  # Snakemake's own
            continue
        record = read_record(record_file(finished.folder / job.log))
        assert record is not None, job.log
        assert record.rule == job.rule
        assert record.command == job.command
        assert set(job.outputs) <= set(record.outputs)
        assert None not in job.inputs.values(), job.rule
        for name, digest in job.inputs.items():
            below = Path(name).relative_to(graph.root).as_posix()
            if below in made:
                assert digest == made[below].digest, name
    run = json.loads((finished.root / RUN / "run.json").read_text(encoding="utf-8"))
    trained = read_record(finished.root / "logs" / "train" / "tiny-dice_ce-seed0-fold0.json")
    assert trained is not None
    assert trained.run_digest == run["run_digest"]


def test_a_figure_is_traced_to_the_phantom_and_checked(copy: Workbench) -> None:
    done = copy.minivess("trace", FIGURE, "--check")
    assert done.returncode == 0, done.stderr
    rules = ("figure", "export", "track", "evaluate", "predict", "train", "preprocess")
    for rule in (*rules, "folds", "manifest", "phantom"):
        assert f"of {rule}, the first one: " in done.stdout or f"made by {rule}: " in done.stdout
    assert "config/phantom.yaml" in done.stdout
    assert "files are what they were when the result was made" in done.stderr
    assert "made by other code" not in done.stderr


def test_a_changed_prediction_reaches_neither_trace_nor_digests(copy: Workbench) -> None:
    prediction = copy.root / RUN / "predictions" / "phantom_001.nii.gz"
    prediction.write_bytes(prediction.read_bytes() + b"\0")
    for arguments in (("trace", FIGURE, "--check"), ("digests", "-e", "tiny")):
        done = copy.minivess(*arguments)
        assert done.returncode == 5
        assert "MV-STATE-005" in done.stderr
        assert f"{RUN}/predictions/phantom_001.nii.gz" in done.stderr
        assert "predict" in done.stderr


def test_files_without_a_record_are_counted_not_refused(copy: Workbench) -> None:
    (copy.root / "logs" / "export.json").unlink()
    done = copy.minivess("digests", "-e", "tiny")
    assert done.returncode == 0, done.stderr
    assert "no job has recorded 5 of them" in done.stderr


def test_a_partial_run_leaves_the_graph_as_it_is(copy: Workbench) -> None:
    before = paths.job_graph(copy.root).read_bytes()
    (copy.folder / FIGURE).unlink()
    copy.complete(FIGURE)
    assert paths.job_graph(copy.root).read_bytes() == before


def test_after_a_failure_the_graph_has_what_was_made(copy: Workbench) -> None:
    before = len(read_graph(copy.root).jobs)
    paths.job_graph(copy.root).unlink()
    paths.digests(copy.root).unlink()
    table = paths.table(copy.root, "summary")
    stat = table.stat()
    table.write_bytes(table.read_bytes() + b"\0")
    os.utime(table, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    done = copy.run()
    assert done.returncode != 0
    rules = [job.rule for job in read_graph(copy.root).jobs]
    assert len(rules) == before - 1
    assert "digests" not in rules


def test_a_lost_graph_comes_back_as_the_error_says(copy: Workbench) -> None:
    before = paths.job_graph(copy.root).read_bytes()
    paths.job_graph(copy.root).unlink()
    assert "Nothing to be done" in copy.complete()
    lost = copy.minivess("trace", FIGURE)
    assert lost.returncode == 5
    assert "SHA256SUMS" in lost.stderr
    paths.digests(copy.root).unlink()
    copy.complete()
    assert paths.job_graph(copy.root).read_bytes() == before


def test_a_finished_experiment_is_packed(copy: Workbench) -> None:
    done = copy.minivess("crate", "--experiment", "tiny")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(copy.folder / "results" / "tiny.crate.zip") as archive:
        inside = set(archive.namelist())
    assert {FIGURE, f"results/tiny/{RUN}/weights.safetensors"} <= inside
    assert not [name for name in inside if "preprocessed/" in name or name.endswith(".nii.gz")]
