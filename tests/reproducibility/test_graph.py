"""The graph: what a run adds, keeps and forgets."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from small_experiment import JOBS, PREDICTION, PREPARED, ROOT, SUMMARY, Small, sha256

from minivess import paths, provenance
from minivess.errors import MinivessError
from minivess.reproducibility.graph import (
    OTHER_TARGETS,
    SMALL_BYTES,
    Job,
    read_graph,
    write_graph,
)


def known() -> dict[str, Job]:
    return {job.rule: job for job in read_graph(ROOT).jobs}


def test_each_input_has_the_digest_it_was_used_with(small: Small) -> None:
    jobs = known()
    assert set(jobs) == set(JOBS)
    assert jobs["predict"].inputs == {PREPARED: sha256(Path(PREPARED))}
    given = jobs["manifest"].inputs
    assert given == {name: sha256(Path(name)) for name in JOBS["manifest"][0]}


def test_inputs_without_a_record_have_no_digest(small: Small) -> None:
    (small.root / "logs" / "preprocess.json").unlink()
    small.write_graph()
    assert known()["predict"].inputs == {PREPARED: None}


def test_large_files_of_the_user_are_not_read(small: Small) -> None:
    with Path("scans/a.nii.gz").open("ab") as file:
        file.truncate(SMALL_BYTES + 1)
    small.write_graph()
    inputs = known()["manifest"].inputs
    assert inputs["scans/a.nii.gz"] is None
    assert inputs["scans/a_label.nii.gz"] is not None


def test_a_partial_run_keeps_the_rest(small: Small) -> None:
    before = paths.job_graph(ROOT).read_bytes()
    write_graph(ROOT, [small.job("predict")], None)
    assert paths.job_graph(ROOT).read_bytes() == before


def test_a_partial_run_replaces_what_makes_a_file_otherwise(small: Small) -> None:
    write_graph(ROOT, [{**small.job("predict"), "rule": "ensemble"}], None)
    assert {job.rule for job in read_graph(ROOT).jobs} == {*JOBS, "ensemble"} - {"predict"}


def test_a_whole_run_forgets_what_it_no_longer_has(small: Small) -> None:
    paper = {**small.job("compare"), "rule": "paper", "outputs": ["results/x/paper/index.html"]}
    old = {**small.job("predict"), "outputs": [PREDICTION.replace("dice_ce", "old")]}
    write_graph(ROOT, [paper, old], None)
    assert len(read_graph(ROOT).jobs) == len(JOBS) + 2
    write_graph(ROOT, [small.job(rule) for rule in JOBS], {"paper"})
    assert {job.rule for job in read_graph(ROOT).jobs} == {*JOBS, "paper"}
    assert PREDICTION in known()["predict"].outputs


def test_ensembles_that_the_config_no_longer_asks_for_are_forgotten(small: Small) -> None:
    record = "results/x/ensembles/net/dice_ce/fold0/ensembles.json"
    write_graph(ROOT, [{**small.job("predict"), "rule": "ensembles", "outputs": [record]}], None)
    write_graph(ROOT, [small.job(rule) for rule in JOBS], OTHER_TARGETS)
    assert {job.rule for job in read_graph(ROOT).jobs} == set(JOBS)


def test_the_other_targets_are_those_of_the_rules() -> None:
    rules = provenance.PACKAGE.parent / "workflow" / "rules"
    texts = [(rules / f"{name}.smk").read_text() for name in ("deploy", "external", "paper")]
    # `external` names the sets and makes nothing.
    assert set(re.findall(r"^rule (\w+):", "".join(texts), re.M)) - {"external"} == OTHER_TARGETS


def test_nothing_of_this_machine_is_in_it(small: Small) -> None:
    job = small.job("compare")
    job["command"] = f"{sys.executable} -m minivess compare --here {small.folder}/results/x"
    job["inputs"] = [PREDICTION, str(small.folder / "paper" / "index.qmd")]
    write_graph(ROOT, [job], None)
    assert known()["compare"].command == "minivess compare --here results/x"
    assert list(known()["compare"].inputs) == ["paper/index.qmd", PREDICTION]
    assert str(small.folder) not in paths.job_graph(ROOT).read_text(encoding="utf-8")


def test_no_graph_and_a_damaged_one(small: Small) -> None:
    paths.job_graph(ROOT).write_text("[]", encoding="utf-8")
    with pytest.raises(MinivessError, match="MV-STATE-003"):
        read_graph(ROOT)
    paths.job_graph(ROOT).unlink()
    with pytest.raises(MinivessError, match="MV-STATE-002") as caught:
        read_graph(ROOT)
    assert "SHA256SUMS" in caught.value.fix
    assert SUMMARY  # the results are still there
    assert Path(SUMMARY).is_file()
