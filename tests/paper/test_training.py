"""What is said of trainings: the values of `auto` of each network, and the epochs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from minivess import paper, paper_training
from minivess.config.models import ModelConfig
from minivess.config.schema import PatchKeys
from minivess.errors import MinivessError


def results_with(root: Path, keys: PatchKeys, values: dict[str, list[str]]) -> paper.Results:
    """Results whose networks have these patch sizes in their runs."""
    results = paper.read_results(root)
    models = {name: ModelConfig() for name in values}
    row = results.tables["params"].row(0, named=True)
    rows = [
        {**row, "model": model, "fold": fold, "name": "data_patch_size", "value": value}
        for model, own in values.items()
        for fold, value in enumerate(own)
    ]
    table = pl.DataFrame(rows, schema=results.tables["params"].schema)
    config = results.config.model_copy(update={"patches": keys, "models": models})
    return replace(results, config=config, tables={**results.tables, "params": table})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"a": ["32 32 8", "32 32 8"], "b": ["32 32 8"]}, "32 × 32 × 8 voxels"),
        ({"a": ["128 64 8", "32 64 8"]}, "32 × 64 × 8 or 128 × 64 × 8 voxels"),
        (
            {"a": ["32 32 8"], "b": ["64 64 8"]},
            "32 × 32 × 8 voxels (`a`), 64 × 64 × 8 voxels (`b`)",
        ),
    ],
)
def test_what_was_decided(root: Path, values: dict[str, list[str]], text: str) -> None:
    results = results_with(root, PatchKeys(patch_size="auto"), values)
    assert paper_training.decided_text(results, "patch_size", " voxels") == text
    assert paper_training.decided_text(results, "batch_size") == "2"


def test_batches_made_smaller_when_memory_ran_out_are_told(root: Path) -> None:
    results = results_with(root, PatchKeys(batch_size=4), {"a": ["32 32 8", "32 32 8"]})
    assert paper_training.decided_text(results, "batch_size") == "4"
    assert paper_training.smaller_batches_text(results) == ""
    params = results.tables["params"]
    # The second fold, two batches of two of which did not fit.
    own = [("data_batch_size", "4"), ("data_batch_size", "1")]
    own.append(("out_of_memory", "batch_size=1 accumulate=4"))
    rows = [
        {**params.row(0, named=True), "fold": min(fold, 1), "name": name, "value": value}
        for fold, (name, value) in enumerate(own)
    ]
    params = pl.concat([params, pl.DataFrame(rows, schema=params.schema)])
    lowered = replace(results, tables={**results.tables, "params": params})
    assert paper_training.decided_text(lowered, "batch_size") == "1 or 4"
    runs = results.tables["runs"].height
    assert paper_training.smaller_batches_text(lowered) == (
        f"Memory ran out in 1 of {runs} trainings, begun again with as many patches per step: a "
        "step there took the mean gradient of 4 batches of 1."
    )
    assert paper_training.decided_text(lowered, "patch_size") == "64 × 64 × 16"


def test_what_the_config_says_needs_no_run(root: Path) -> None:
    results = results_with(root, PatchKeys(pad_thin=True), {"a": []})
    assert paper_training.decided_text(results, "patch_size") == "64 × 64 × 16"
    assert paper_training.mirrors_thin_volumes(results)


def test_runs_that_do_not_say_what_they_took_are_an_error(root: Path) -> None:
    results = results_with(root, PatchKeys(patch_size="auto"), {"a": []})
    with pytest.raises(MinivessError, match="no parameter data_patch_size of the network a"):
        paper_training.decided_text(results, "patch_size")


def test_runs_that_did_not_finish_have_no_epoch(root: Path) -> None:
    results = paper.read_results(root)
    runs = results.tables["runs"]
    stopped = runs.head(1).with_columns(status=pl.lit("KILLED"), best_epoch=pl.lit(0, pl.Int64))
    some = replace(results, tables={**results.tables, "runs": pl.concat([stopped, runs[1:]])})
    done = paper_training.finished(some)
    assert done.height == runs.height - 1
    assert paper_training.span(done["best_epoch"]) == "4 to 8"
