"""Errors while patches are prepared, with and without processes of their own."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import pytest

from minivess.data.augment import training_patch
from minivess.errors import MinivessError
from minivess.training import loading

if TYPE_CHECKING:
    from collections.abc import Callable

    from minivess.training.trainer import TrainingTask


def damaged(index: int) -> MinivessError:
    return MinivessError(
        "MV-DATA-002", what="a", where=f"patch {index}", found="c", expected="d", fix="e"
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_ours_arrives_as_it_is(
    workers: int, make_task: Callable[..., TrainingTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    def patch(*given: Any) -> Any:
        if given[-1] >= 3:
            raise damaged(given[-1])
        return training_patch(*given)

    monkeypatch.setattr(loading, "training_patch", patch)
    shown = loading.batches(make_task(compute={"workers": workers}), 1)
    images, _ = next(shown)
    assert len(images) == 2, "the batch before it is whole"
    with pytest.raises(MinivessError) as caught:
        next(shown)
    del shown  # workers end at once where no cycle of references holds them
    assert astuple(caught.value) == astuple(damaged(3))
    assert caught.value.exit_status == 3
