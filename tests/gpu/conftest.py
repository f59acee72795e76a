"""What needs a GPU: run with `just test tests/gpu` on a machine that has one, skipped elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


@pytest.fixture(autouse=True)
def gpu() -> Iterator[torch.device]:
    """A GPU, and an error for an operation that is not deterministic on it."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    from minivess.config.schema import ComputeConfig
    from minivess.inference.device import prepare_torch

    threads = torch.get_num_threads()
    prepare_torch(ComputeConfig(threads=1))
    yield torch.device("cuda", 0)
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
