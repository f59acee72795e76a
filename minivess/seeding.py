"""All randomness of the project: a seed for each (seed, purpose, indices), never global state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def derive_seed(seed: int, purpose: str, *indices: int | str) -> int:
    """A 63-bit seed that depends on nothing but its arguments.

    Args:
        seed: the seed of the experiment.
        purpose: what the numbers are for, for example "augment".
        indices: fold, epoch, index of the sample, name of the case: whatever tells uses apart.

    Source: SHA-256 of the arguments, so that neighbouring seeds are unrelated.

    >>> derive_seed(0, "augment", 1, 2) == derive_seed(0, "augment", 1, 2)
    True
    >>> derive_seed(0, "augment", 1, 2) == derive_seed(0, "augment", 12)
    False
    """
    text = "\x1f".join([str(seed), purpose, *(str(index) for index in indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *indices: int | str) -> np.random.Generator:
    """A NumPy generator (PCG64) for one purpose; see `derive_seed`.

    >>> int(generator(0, "doctest").integers(10)) == int(generator(0, "doctest").integers(10))
    True
    """
    return np.random.Generator(np.random.PCG64(derive_seed(seed, purpose, *indices)))


@contextmanager
def torch_seeded(seed: int, purpose: str, *indices: int | str) -> Iterator[None]:
    """Torch's generators seeded for one block and restored after it; see `derive_seed`.

    For libraries that draw from torch's global generator: TorchIO, weight initialisation, dropout.
    """
    import torch

    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(seed, purpose, *indices))
        yield


def reseed_torch(seed: int, purpose: str, *indices: int | str) -> None:
    """Seed torch's generators anew, within a block of `torch_seeded`; see `derive_seed`.

    >>> import torch
    >>> with torch_seeded(0, "doctest"):
    ...     reseed_torch(0, "doctest", 1)
    ...     first = torch.rand(1)
    ...     reseed_torch(0, "doctest", 1)
    ...     bool(torch.rand(1) == first)
    True
    """
    import torch

    torch.manual_seed(derive_seed(seed, purpose, *indices))
