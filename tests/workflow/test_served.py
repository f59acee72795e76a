"""What the service sends is what the DAG has predicted, byte for byte."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from forked import forked
from small_bundle import make_bundle
from workbench import Workbench

from minivess import paths
from minivess.config.load import load_step
from minivess.config.schema import ModelConfig
from minivess.data.folds import read_folds
from minivess.data.manifest import read_manifest
from minivess.deploy.answer import Desk, answer
from minivess.deploy.bundle import Bundle
from minivess.deploy.form import Form
from minivess.deploy.onnx import export_network
from minivess.deploy.segment import open_session
from minivess.deploy.upload import Limits
from minivess.inference.predict import load_network
from minivess.inference.windows import window_for
from minivess.models import build_adapter
from minivess.types import RunKey

pytestmark = pytest.mark.dag


def exported(root: Path, key: RunKey, folder: Path) -> Bundle:
    """A run of an experiment as a bundle."""
    run = paths.run_folder(root, key)
    record = json.loads(paths.run_record(run).read_text(encoding="utf-8"))["network"]
    inference = load_step(paths.step_config(root, "predict")).inference
    adapter = build_adapter(ModelConfig(**record["config"]), tuple(record["spacing_um"]))
    trained = load_network(run)
    window = window_for(inference.window_size or trained.patch_size, trained.divisor)
    return make_bundle(
        folder,
        forked(export_network, trained.network, window, adapter.any_window()),
        preprocess=load_step(paths.step_config(root, "preprocess")).preprocess,
        window=window,
        divisor=trained.divisor,
        any_window=adapter.any_window(),
        overlap=inference.overlap,
        window_batch=inference.window_batch,
        threshold=inference.probability_threshold,
    )


def test_the_service_sends_the_bytes_of_the_prediction(
    finished: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    root = paths.experiment_folder(finished.name)
    images = dict(read_manifest(paths.manifest(root)).select("case", "image").iter_rows())
    for fold, split in enumerate(read_folds(paths.folds(root)).folds):
        key = RunKey("tiny", "dice_ce", 0, fold)
        bundle = exported(root, key, tmp_path / str(fold))
        desk = Desk(open_session(bundle), bundle, Limits(1 << 24, 1 << 20), 60.0)
        for case in split.validation:
            form = Form(Path(images[case]), None, None, "header", "mask")
            sent = answer(desk, form, tmp_path, threading.Event()).path.read_bytes()
            assert sent == paths.prediction(paths.run_folder(root, key), case).read_bytes()
