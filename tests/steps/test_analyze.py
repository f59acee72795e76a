"""The baseline of the finished experiment in miniature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from minivess import paths
from minivess.data.folds import read_folds
from minivess.data.manifest import read_image, read_label, read_manifest
from minivess.metrics.threshold import best_threshold
from minivess.steps import analyze, data

from .conftest import configured


def test_clipping_leaves_the_baseline_as_it_is(root: Path) -> None:
    # Vessels fill less than what is clipped.
    configured(Path(), preprocess={"clip_percentiles": [0.0, 50.0]})
    for fold in read_folds(paths.folds(root)).folds:
        for case in fold.validation:
            data.preprocess(root, case)
    analyze.baseline(root)
    table = pl.read_parquet(paths.baseline(root))
    rows = {row["case"]: row for row in read_manifest(paths.manifest(root)).to_dicts()}
    assert table.height == 4
    for case, threshold, dice in table.iter_rows():
        image, reference = read_image(rows[case]), read_label(rows[case], None)
        assert (threshold, dice) == best_threshold(image, reference)
        clipped = np.minimum(image, np.percentile(image, 50))
        assert dice > best_threshold(clipped, reference)[1]
