"""What the tests of sweeps share: a space, and the fixture that loads the file of a sweep."""

from __future__ import annotations

from collections.abc import Callable

from minivess.sweep.space import Sweep

RATES = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
type Make = Callable[..., Sweep]
