"""What the folds step says of few cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess.steps import data

from .conftest import SMALL, configured

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HINT = "folds.selection_fraction=0"


def test_where_few_cases_train_it_names_the_key(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(data, "say", said.append)
    data.folds(root)
    assert sum(HINT in line for line in said) == 2, "two folds train on one case each"
    said.clear()
    configured(root.parents[1], folds={**SMALL["folds"], "selection_fraction": 0})
    data.folds(root)
    assert len(said) == 2
    assert not any(HINT in line for line in said)
