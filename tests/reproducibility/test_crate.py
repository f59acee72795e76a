"""The crate: reads back, every file with its digest, nothing that was not asked for, same bytes."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from rocrate.rocrate import ROCrate
from small_experiment import GIVEN, JOBS, PREDICTION, PREPARED, ROOT, SUMMARY, Small, sha256

from minivess import output, provenance
from minivess.errors import MinivessError
from minivess.reproducibility.crate import METADATA, write_crate
from minivess.reproducibility.graph import write_graph

ZIP = Path("x.crate.zip")
PROJECT = provenance.PACKAGE.parent


@pytest.fixture
def crate(small: Small) -> ROCrate:
    write_crate(ROOT, ZIP)
    return ROCrate(ZIP)


def ids(value: Any) -> set[str]:
    return {entity.id for entity in (value if isinstance(value, list) else [value])}


def names() -> set[str]:
    with zipfile.ZipFile(ZIP) as archive:
        return set(archive.namelist())


def test_every_file_is_there_with_its_digest_and_size(crate: ROCrate) -> None:
    found = {entity.id: entity for entity in crate.get_by_type("File")}
    assert {*found, METADATA} == names()
    assert ids(crate.root_dataset["hasPart"]) == set(found)
    for name, entity in found.items():
        path = crate.source / name
        assert entity["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest(), name
        assert entity["contentSize"] == str(path.stat().st_size), name
        assert "/" in entity["encodingFormat"], name


def test_workflow_results_and_records_are_in_it_and_volumes_are_not(crate: ROCrate) -> None:
    inside = names()
    assert {"Snakefile", "uv.lock", "CITATION.cff", "workflow/rules/train.smk"} <= inside
    assert {SUMMARY, "results/x/logs/compare.json", "results/x/logs/dag.json"} <= inside
    assert {f"results/x/config/{name}.yaml" for name in ("experiment", "manifest")} <= inside
    for name in (PREPARED, PREDICTION, *GIVEN):
        assert name not in inside
        listed = crate.get(f"#{name}")
        assert listed["sha256"] == sha256(Path(name))
        assert listed.type == "CreativeWork"


def test_volumes_and_predictions_where_they_are_asked_for(small: Small) -> None:
    crate = write_crate(ROOT, ZIP, with_volumes=True)
    assert {PREDICTION, *GIVEN} <= names()
    assert PREPARED not in names()
    assert crate.listed == 1
    assert str(crate).endswith("1 listed with their digests")


def test_what_lies_outside_the_working_folder_gets_a_place(small: Small) -> None:
    outside = small.folder.parent / f"{small.folder.name} scans" / "b.nii.gz"
    output.write_text("outside", outside)
    job = small.job("manifest")
    job["inputs"] = [str(outside), f"../{outside.parent.name}/b.nii.gz"]
    write_graph(ROOT, [job], None)
    write_crate(ROOT, ZIP, with_volumes=True)
    assert f"given/{outside.parent.name}/b.nii.gz" in names()
    assert f"given{outside.as_posix()}" in names()
    assert not [name for name in names() if name.startswith("/") or ".." in name]
    read = ROCrate(ZIP)
    entity = read.get(f"given/{outside.parent.name}/b.nii.gz".replace(" ", "%20"))
    assert entity["sha256"] == sha256(outside)


def test_the_paper_and_its_manuscript_are_in_it(small: Small) -> None:
    output.write_text("<p>rendered</p>", ROOT / "paper" / "index.html")
    job = small.job("compare") | {"rule": "paper", "log": ["results/x/logs/paper.log"]}
    job |= {"inputs": [SUMMARY, str(PROJECT / "paper" / "index.qmd")]}
    job |= {"outputs": ["results/x/paper/index.html"]}
    write_graph(ROOT, [job], None)
    write_crate(ROOT, ZIP)
    assert {"results/x/paper/index.html", "paper/index.qmd"} <= names()
    assert "paper/index.qmd" in ids(ROCrate(ZIP).get("#job-paper")["object"])


def other_target(small: Small, rule: str, inputs: list[str], result: str) -> None:
    """A target beside the whole experiment, run now."""
    output.write_text(rule, Path(result))
    config = (ROOT / "config" / "experiment.yaml").as_posix()
    job = small.job("compare") | {"rule": rule, "log": [small.log(rule)]}
    job |= {"inputs": [config, *inputs], "outputs": [result]}
    small.record("compare")
    text = (ROOT / "logs" / "compare.json").read_text(encoding="utf-8")
    record = json.loads(text) | {"rule": rule, "outputs": {result: sha256(Path(result))}}
    output.write_json(record, ROOT / "logs" / f"{rule}.json")
    write_graph(ROOT, [job], None)


def test_targets_that_the_experiment_has_outdated_are_left_out_and_named(small: Small) -> None:
    exported, card = "results/x/deploy/model.onnx", "results/x/deploy/README.md"
    other_target(small, "deploy_onnx", [], exported)
    output.write_text("name: recoloured\n", ROOT / "config" / "experiment.yaml")
    for rule in JOBS:
        small.record(rule)
    # Of the new config, but from what is of the old one.
    other_target(small, "deploy", [exported], card)
    other_target(small, "paper", [SUMMARY], "results/x/paper/index.html")
    crate = write_crate(ROOT, ZIP)
    assert crate.left_out == ("deploy_onnx", "deploy")
    assert "left out" in str(crate)
    assert "results/x/paper/index.html" in names()
    assert not {exported, card} & names()
    read = ROCrate(ZIP)
    assert "has changed since: deploy_onnx, deploy." in read.description
    assert read.get("#job-paper")
    assert not read.get("#job-deploy")


def test_a_paper_of_other_tables_is_left_out(small: Small) -> None:
    other_target(small, "paper", [SUMMARY], "results/x/paper/index.html")
    text = Path(SUMMARY).read_text(encoding="utf-8")
    Path(SUMMARY).write_text(text + "\n", encoding="utf-8")
    small.record("compare")
    small.write_digests()
    assert write_crate(ROOT, ZIP).left_out == ("paper",)


def test_volumes_of_an_external_set_are_not_in_it(small: Small) -> None:
    folder = ROOT / "external" / "site_b"
    arrays = [folder / "data" / "preprocessed" / "b" / "image.npy"]
    volumes = [
        folder / "data" / "unpacked" / "raw" / "b.tif",
        folder / "data" / "phantom" / "cases.csv",
        folder / "predictions" / "b.nii.gz",
        folder / "vote" / "predictions" / "b_probability.nii.gz",
        folder / "b.nii.gz",
    ]
    tables = [folder / "tables" / "external.parquet", folder / "result.json"]
    for path in (*arrays, *volumes, *tables):
        output.write_text(path.name, path)
    job = small.job("compare") | {"rule": "evaluate_external"}
    job |= {"log": ["results/x/logs/evaluate_external/site_b.log"], "inputs": []}
    job |= {"outputs": [path.as_posix() for path in (*tables, *arrays, *volumes)]}
    write_graph(ROOT, [job], None)
    write_crate(ROOT, ZIP)
    inside = {Path(name) for name in names()}
    assert inside >= set(tables)
    assert not inside & {*arrays, *volumes}
    write_crate(ROOT, ZIP, with_volumes=True)
    inside = {Path(name) for name in names()}
    assert inside >= {*tables, *volumes}
    assert not inside & set(arrays)


def test_texts_of_the_project_that_it_runs_in_are_in_it(small: Small) -> None:
    texts = ["paper/_quarto.yml", "paper/index.qmd", "scans/cases.csv", "losses/own.py"]
    others = ["../scans/folds.json", "scans/a.nii.gz", "scans/a.raw", "set.zip"]
    for name in (*texts, *others, "Snakefile", "uv.lock"):
        output.write_text(name, Path(name))
    output.write_text("license: MIT\n", Path("CITATION.cff"))
    job = small.job("manifest")
    job["inputs"] = [*texts, *others, str(small.folder / "uv.lock")]
    write_graph(ROOT, [job], None)
    write_crate(ROOT, ZIP)
    assert {*texts, "uv.lock"} <= names()
    assert not names() & {*others, "given/scans/folds.json"}
    listed = ROCrate(ZIP)
    assert all(listed.get(f"#{name}") for name in others)


def test_jobs_are_actions_with_inputs_results_times_and_rules(crate: ROCrate) -> None:
    workflow = crate.mainEntity
    assert workflow.id == "Snakefile"
    assert {"ComputationalWorkflow", "HowTo"} <= set(workflow.type)
    assert ids(workflow["hasPart"]) == {f"#tool-{rule}" for rule in JOBS}
    action = crate.get("#job-predict")
    assert action.type == "CreateAction"
    assert ids(action["instrument"]) == {"#tool-predict"}
    assert ids(action["object"]) == {f"#{PREPARED}"}
    assert ids(action["result"]) == {f"#{PREDICTION}"}
    assert action["startTime"] == "2026-01-02T03:04:02+00:00"
    assert action["description"] == "minivess --log results/x/logs/predict.log predict -e x"
    assert ids(action["subjectOf"]) == {"results/x/logs/predict.json"}
    assert ids(crate.get("#control-predict")["object"]) == {"#job-predict"}
    assert ids(crate.get("#control-predict")["instrument"]) == {"#step-predict"}
    whole = crate.get("#run")
    assert ids(whole["instrument"]) == {"Snakefile"}
    assert whole["startTime"] < whole["endTime"]
    assert {"#run", "#job-compare"} <= ids(crate.root_dataset["mentions"])
    profiles = ids(crate.root_dataset["conformsTo"])
    assert "https://w3id.org/ro/wfrun/provenance/0.5" in profiles


def test_authors_licence_numbers_and_software_are_described(crate: ROCrate) -> None:
    root = crate.root_dataset
    assert [author["name"] for author in root["author"]] == ["The MiniVess developers"]
    assert root["license"].id == "https://spdx.org/licenses/Apache-2.0"
    assert root["datePublished"] == "2026-01-02"
    number = crate.get("#mean-net-dice_ce-dice")
    assert (number["value"], number["minValue"], number["maxValue"]) == (0.5, 0.25, 0.75)
    assert crate.get("https://pypi.org/project/torch/")["softwareVersion"] == "2.12.0"


def test_a_person_in_the_citation_is_an_author(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Snakefile", "uv.lock"):
        output.write_text("made up", Path(name))
    person = "  - given-names: Ada\n    family-names: Lovelace\n    orcid: https://orcid.org/0\n"
    output.write_text(f"title: T\nlicense: MIT\nauthors:\n{person}", Path("CITATION.cff"))
    write_crate(ROOT, ZIP)
    crate = ROCrate(ZIP)
    assert crate.name == "T: experiment x"
    author = crate.get("https://orcid.org/0")
    assert (author.type, author["name"]) == ("Person", "Ada Lovelace")
    assert crate.root_dataset["license"].id == "https://spdx.org/licenses/MIT"


def test_the_same_results_give_the_same_bytes(small: Small) -> None:
    first = write_crate(ROOT, ZIP).path.read_bytes()
    for path in (small.root / "tables" / "summary.json", small.root / "logs" / "dag.json"):
        path.touch()
    time.sleep(0.01)
    assert write_crate(ROOT, Path("again.zip")).path.read_bytes() == first
    small.record("compare")
    path = small.root / "logs" / "compare.json"
    path.write_text(path.read_text(encoding="utf-8").replace("03:04", "03:05"), encoding="utf-8")
    assert write_crate(ROOT, Path("later.zip")).path.read_bytes() != first


def test_its_place_is_beside_the_results_unless_named(small: Small) -> None:
    assert write_crate(ROOT).path == Path("results/x.crate.zip")


def test_changed_or_unfinished_results_are_not_packed(small: Small) -> None:
    output.write_text("other", Path(PREDICTION))
    with pytest.raises(MinivessError, match="MV-STATE-005"):
        write_crate(ROOT, ZIP)
    (small.root / "SHA256SUMS").unlink()
    with pytest.raises(MinivessError, match="MV-STATE-002"):
        write_crate(ROOT, ZIP)
    assert not ZIP.exists()


def test_a_config_that_was_only_planned_is_not_packed(small: Small) -> None:
    output.write_text("name: planned\n", small.root / "config" / "preprocess.yaml")
    with pytest.raises(MinivessError, match="MV-STATE-005") as caught:
        write_crate(ROOT, ZIP)
    assert "config/preprocess.yaml" in caught.value.where


def test_results_without_any_record_are_not_packed(small: Small) -> None:
    for rule in JOBS:
        (small.root / "logs" / f"{rule}.json").unlink()
    with pytest.raises(MinivessError, match="MV-STATE-002") as caught:
        write_crate(ROOT, ZIP)
    assert "no job of this experiment left a record" in str(caught.value)


def test_the_metadata_is_plain_json_with_one_entity_per_id(crate: ROCrate) -> None:
    with zipfile.ZipFile(ZIP) as archive:
        graph = json.loads(archive.read(METADATA))["@graph"]
    identifiers = [entity["@id"] for entity in graph]
    assert len(identifiers) == len(set(identifiers))
    text = json.dumps(graph)
    assert str(PROJECT) not in text
