from __future__ import annotations

from typing import Any

import pytest

from minivess.config.ensembles import EnsemblesConfig, check_ensembles
from minivess.config.load import resolve_mapping
from minivess.errors import MinivessError


def check(kinds: list[str] = [], dropout: float = 0.0, **values: Any) -> None:  # noqa: B006
    models = {"net": {"dropout": dropout}}
    experiment = {"name": "x", "models": models, "ensembles": {"kinds": kinds}, **values}
    check_ensembles(resolve_mapping(experiment, {}, "test"))


@pytest.mark.parametrize(
    ("kinds", "values", "found"),
    [
        (["mean", "vote"], {}, "at least two seeds are needed for mean, vote"),
        (["mc_dropout"], {}, "dropout above 0: net"),
        (["swa"], {}, "need training.swa_start"),
        (["swag"], {"training": {"swa_start": 5}}, "swag needs training.swag_rank"),
        (["snapshot"], {}, "needs training.snapshot_cycles"),
        ([], {"training": {"epochs": 5, "swa_start": 6}}, "after the last epoch"),
        ([], {"training": {"swag_rank": 2}}, "swag_rank needs training.swa_start"),
        ([], {"training": {"epochs": 5, "swa_start": 4, "swag_rank": 3}}, "more than the epochs"),
        ([], {"training": {"swa_start": 4, "snapshot_cycles": 2}}, "two learning rates"),
        ([], {"training": {"epochs": 5, "snapshot_cycles": 2}}, "no multiple"),
    ],
)
def test_what_has_nothing_to_be_made_of(
    kinds: list[str], values: dict[str, Any], found: str
) -> None:
    with pytest.raises(MinivessError) as caught:
        check(kinds, **values)
    assert caught.value.code == "MV-CONFIG-004"
    assert found in caught.value.found


def test_what_can_be_made() -> None:
    check()
    check(["mean", "vote", "uniform_soup", "greedy_soup"], seeds=[0, 1])
    check(["mc_dropout"], dropout=0.1)
    check(["swa", "swag"], training={"epochs": 5, "swa_start": 4, "swag_rank": 2})
    check(["snapshot"], training={"epochs": 6, "snapshot_cycles": 3})


def test_ensembles_within_a_training_are_of_each_seed() -> None:
    made = EnsemblesConfig(kinds=("mean", "swag")).made([5, 2])
    assert made == [("mean", 2), ("swag", 2), ("swag", 5)]
