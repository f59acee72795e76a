"""The made-up experiment, in a working folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_experiment import Small, make_small


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """The experiment, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return make_small(tmp_path)
