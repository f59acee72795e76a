"""What a card says of a network that others have begun; the rest is in test_deploy.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from small_bundle import make_bundle

from minivess.deploy.model_card import CardFacts, model_card

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architecture": "sam", "weights": "a"}, ["Apache-2.0", "SA-1B"]),
        ({"architecture": "vesselfm", "weights": "a.pt"}, ["OpenRAIL", "MiniVess"]),
        ({"architecture": "vesselfm", "weights": None}, []),
        ({"architecture": "dynunet", "filters": [4, 8, 8]}, []),
    ],
)
def test_the_licence_of_weights_it_began_with_is_told(
    config: dict[str, Any], said: list[str], tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path)
    record = {
        "model": "net",
        "loss": "dice_ce",
        "seed": 0,
        "fold": 0,
        "best_epoch": 1,
        "epochs": 2,
        "network": {"config": config},
    }
    parity = {"variants": {"float32": {"max_difference": 0.0, "min_dice": 1.0, "cases": []}}}
    digests = {"manifest": "0", "folds": "1"}
    facts = CardFacts("won", "by far", record, "phantom", [], digests, {}, parity, [])
    (part,) = model_card(bundle, facts).split("## Limits")[1:]
    limits = part.split("##")[0]
    assert ("published weights" in limits) is bool(said)
    assert all(word in limits for word in said)
