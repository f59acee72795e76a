"""The simulation of coverage: it holds, and it notices methods that do not."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from minivess.errors import MinivessError
from minivess.statistics import conformal

FILE = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def coverage() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("coverage_simulation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(FILE.parent))
        spec.loader.exec_module(module)
    yield module
    for name in (spec.name, "page"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def pool(coverage: ModuleType) -> object:
    return coverage.make_pool(40, seed=0)


def test_200_splits_are_covered_as_promised(coverage: ModuleType, pool: object) -> None:
    for n_calibration, alpha in ((9, 0.1), (19, 0.2)):
        outcomes = coverage.simulate(pool, 200, n_calibration, alpha, seed=0)
        assert [one.method.split()[0].strip(",") for one in outcomes] == [
            "threshold",
            "outer",
            "inner",
        ]
        for one in outcomes:
            assert one.holds, one


def test_a_quantile_without_its_correction_is_noticed(
    coverage: ModuleType, pool: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    monkeypatch.setattr(
        conformal, "split_quantile", lambda scores, alpha: np.quantile(scores, 1 - 3 * alpha)
    )
    outcomes = coverage.simulate(pool, 200, 19, 0.1, seed=0)
    assert [one.holds for one in outcomes] == [True, False, False]


def test_too_few_cases_are_an_error(coverage: ModuleType, pool: object) -> None:
    with pytest.raises(MinivessError, match="MV-CONFORMAL-001"):
        coverage.simulate(pool, 2, 5, 0.1, seed=0)
