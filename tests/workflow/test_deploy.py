"""The target `deploy`: champions as ONNX, their parity, cards and place in MLflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from workbench import TINY, Workbench

from minivess import paths
from minivess.data.volume import read_volume
from minivess.deploy.bundle import read_bundle
from minivess.statistics import tables
from minivess.statistics.champion import RULES

pytestmark = pytest.mark.dag
SECTION = {"licence": "cc-by-4.0", "variants": ["fp16", "int8"]}


def bundles(bench: Workbench) -> dict[str, dict[str, bytes]]:
    folders = [paths.bundle(bench.root, kind) for kind in RULES]
    return {f.name: {file.name: file.read_bytes() for file in f.iterdir()} for f in folders}


def test_champions_are_exported_compared_described_and_registered(
    finished: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished.folder, tmp_path / "work", symlinks=True)
    bench = Workbench(tmp_path / "work")
    before = bench.digests()

    # A limit that nothing keeps: the error names it, and what was computed stays.
    bench.write_config(deploy={**SECTION, "parity_difference": 1e-12})
    failed = bench.run("deploy")
    assert failed.returncode != 0
    assert "MV-DEPLOY-002" in failed.stdout + failed.stderr
    made = bundles(bench)
    assert {"model.onnx", "parity.json"} <= set(made["balanced"])
    assert "bundle.json" not in made["balanced"]

    bench.write_config(deploy=SECTION)
    assert "deploy_onnx" not in bench.planned("deploy")
    bench.complete("deploy")
    after = bundles(bench)
    assert after["balanced"]["model.onnx"] == made["balanced"]["model.onnx"]
    # Nothing of the experiment itself has changed.
    changed = {name: digest for name, digest in bench.digests().items() if name in before}
    assert {n for n in changed if changed[n] != before[n]} <= {"config/experiment.yaml"} | {
        name for name in changed if name.startswith("config/deploy")
    }

    check_bundles(bench)
    monkeypatch.chdir(bench.folder)
    check_registry(bench)
    check_segment(bench)

    # Again, from the champions on: the same bytes.
    shutil.rmtree(bench.root / "deploy")
    bench.complete("deploy")
    assert bundles(bench) == after


def check_bundles(bench: Workbench) -> None:
    champions = json.loads(paths.champions(bench.root).read_text(encoding="utf-8"))["champions"]
    summary = tables.read("summary", paths.table(bench.root, "summary"))
    for kind in RULES:
        bundle = read_bundle(paths.bundle(bench.root, kind))
        entry = champions[kind]
        assert bundle.run == entry["run"]
        assert set(bundle.also) == {k for k in RULES if champions[k]["run"] == bundle.run} - {kind}
        assert bundle.window == tuple(TINY["patches"]["patch_size"])
        own = summary.filter(model=entry["model"], loss=entry["loss"])
        means = dict(own.select("metric", "mean").iter_rows())
        assert {one.metric: one.mean for one in bundle.metrics}.items() <= means.items()
        parity = json.loads(paths.bundle_parity(bundle.folder).read_text(encoding="utf-8"))
        full = parity["variants"]["float32"]
        assert full["max_difference"] < 1e-5
        assert all(case["differing_far"] == 0 for case in full["cases"].values())
        assert set(parity["variants"]) == {"float32", "fp16", "int8"}
        assert parity["variants"]["int8"]["max_difference"] > full["max_difference"]
        check_card(bundle.folder, means["dice"])
    log = (bench.root / "logs" / "deploy_onnx.log").read_text(encoding="utf-8")
    runs = {entry["run"] for entry in champions.values()}
    assert log.count(" MB") == len(runs), "each network is exported once"


def check_card(folder: Path, dice: float) -> None:
    from huggingface_hub import ModelCard

    text = paths.model_card(folder).read_text(encoding="utf-8")
    card = ModelCard(text)
    assert card.data.license == "cc-by-4.0"
    results = {one.metric_type: one.metric_value for one in card.data.eval_results}
    assert results["dice"] == dice
    assert set(results) >= {"dice", "cldice", "nsd"}
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "onnx"
    for word in ("## Intended use", "## Limits", "## Data", "synthetic", "SHA-256"):
        assert word in text


def check_registry(bench: Workbench) -> None:
    import mlflow

    uri = f"sqlite:///{bench.folder}/mlflow.db"
    client = mlflow.MlflowClient(uri, uri)
    version = client.get_model_version_by_alias("minivess.tiny.onnx", "champion")
    assert version.source == "results/tiny/deploy/balanced"
    assert version.tags["licence"] == "cc-by-4.0"
    for kind in RULES:
        assert client.get_model_version_by_alias("minivess.tiny.onnx", kind).version
    model = mlflow.pyfunc.load_model(version.source)
    example = json.loads(paths.bundle_example(Path(version.source)).read_text(encoding="utf-8"))
    image = np.array(example["inputs"]["image"], dtype=np.float32)
    found = model.predict({"image": image})["probability"]
    assert found.shape == image.shape
    assert 0 <= found.min() <= found.max() <= 1


def check_segment(bench: Workbench) -> None:
    """A held-out case from the command line is what the DAG predicted, byte for byte."""
    run = read_bundle(paths.bundle(bench.root, "balanced")).run
    folder = paths.run_folder(bench.root, run)
    case = json.loads(paths.run_record(folder).read_text(encoding="utf-8"))["cases"]["validation"][
        0
    ]
    image = bench.root / "data" / "phantom" / "images" / f"{case}.nii.gz"
    done = bench.minivess(
        "segment", str(image), "-e", "tiny", "--out", "mask.nii.gz", "--probability"
    )
    assert done.returncode == 0, done.stderr
    assert "1 x 1 x 5 um" in done.stdout + done.stderr
    assert "Length" in done.stdout + done.stderr
    mask = (bench.folder / "mask.nii.gz").read_bytes()
    trained = read_volume(paths.probability(folder, case)).array
    found = read_volume(bench.folder / "mask_probability.nii.gz").array
    np.testing.assert_allclose(found, trained, atol=1e-5)
    if (np.abs(trained - 0.5) > 1e-5).all():
        assert mask == paths.prediction(folder, case).read_bytes()
