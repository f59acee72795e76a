"""What a card says of a network that others have begun; the rest is in test_deploy.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from small_bundle import make_bundle

from minivess.config.profiles import ModelProfile, read_profile
from minivess.deploy.model_card import CardFacts, model_card

if TYPE_CHECKING:
    from pathlib import Path


OWN = {"licence": "CC-BY-NC-4.0", "trained_on": ("my mice",)}
RECORD: dict[str, Any] = {
    "model": "net",
    "loss": "dice_ce",
    "seed": 0,
    "fold": 0,
    "best_epoch": 1,
    "epochs": 2,
}
PARITY = {"variants": {"float32": {"max_difference": 0.0, "min_dice": 1.0, "cases": []}}}
DIGESTS = {"manifest": "0", "folds": "1"}


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (read_profile("sam"), ["sam", "Apache-2.0", "SA-1B"]),
        (read_profile("vesselfm"), ["vesselfm", "OpenRAIL", "MiniVess"]),
        (read_profile("vesselfm").model_copy(update=OWN), ["CC-BY-NC-4.0", "my mice"]),
        (None, []),
    ],
)
def test_the_licence_of_weights_it_began_with_is_told(
    terms: ModelProfile | None, said: list[str], tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path)
    facts = CardFacts("won", "by far", RECORD, "phantom", [], DIGESTS, {}, PARITY, [], terms)
    (part,) = model_card(bundle, facts).split("## Limits")[1:]
    limits = part.split("##")[0]
    assert ("weights from a file" in limits) is bool(said)
    assert all(word in limits for word in said)


@pytest.mark.parametrize("selects", [True, False])
def test_what_chose_the_epoch_is_told(selects: bool, tmp_path: Path) -> None:
    cases = [
        (role, role, [1.0, 1.0, 5.0], [32, 32, 8], "0")
        for role in ("train", "selection", "held out")
        if selects or role != "selection"
    ]
    facts = CardFacts("won", "by far", RECORD, "phantom", cases, DIGESTS, {}, PARITY, [])
    card = model_card(make_bundle(tmp_path), facts)
    assert ("those with the role selection have chosen the epoch" in card) == selects
    assert ("no case has chosen the epoch" in card) == (not selects)
