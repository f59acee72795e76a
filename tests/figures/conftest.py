"""Synthetic tables of any number of arms and cases, small and without randomness of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from minivess import seeding
from minivess.config.schema import StatisticsConfig
from minivess.figures import FigureInputs
from minivess.figures.qualitative import QualitativeCase, qualitative_cases
from minivess.metrics import METRICS
from minivess.statistics import compare, tables
from minivess.statistics.ranks import rank_arms
from minivess.statistics.summary import MAIN_METRICS

type Arms = tuple[tuple[str, str], ...]

FAST = StatisticsConfig(bootstrap_resamples=49, permutation_resamples=49)
TWO_ARMS: Arms = (("net", "dice_ce"), ("net", "cldice"))


def make_inputs(arms: Arms = TWO_ARMS, n_cases: int = 5, epochs: int = 4) -> FigureInputs:
    """Tables and slices; the last case of the first arm failed."""
    random = seeding.generator(0, "figure-tests")
    cases: list[dict[str, object]] = []
    history: list[dict[str, object]] = []
    for arm_index, (model, loss) in enumerate(arms):
        run = {"experiment": "test", "model": model, "loss": loss, "seed": 0}
        for index in range(n_cases):
            dice = 0.6 + 0.05 * arm_index + 0.1 * float(random.random())
            failed = arm_index == 0 and index == n_cases - 1
            for metric in MAIN_METRICS:
                um = METRICS[metric].unit == "um"
                bad, good = (300.0, 10 * (1 - dice)) if um else (0.0, dice)
                cases.append(
                    {
                        **run,
                        "fold": index % 2,
                        "case": f"mv{index:02d}",
                        "metric": metric,
                        "value": bad if failed else good,
                        "unit": METRICS[metric].unit,
                        "status": "empty_prediction" if failed else "ok",
                    }
                )
        for fold in range(2):
            for epoch in range(1, epochs + 1):
                for name in ("train/loss", "selection/dice"):
                    value = 1 / epoch if name == "train/loss" else 1 - 1 / (epoch + 1 + fold)
                    history.append(
                        {
                            **run,
                            "fold": fold,
                            "epoch": epoch,
                            "name": name,
                            "value": value,
                        }
                    )
    table = tables.from_rows("cases", cases)
    baseline: list[dict[str, object]] = [
        {"case": f"mv{index:02d}", "threshold": 0.5, "dice": 0.4} for index in range(n_cases)
    ]
    return FigureInputs(
        tables={
            "cases": table,
            "summary": compare.summarise(table, FAST),
            "comparison": compare.compare(table, FAST),
            "baseline": tables.from_rows("baseline", baseline),
            "history": tables.from_rows("history", history),
            "ranks": rank_arms(table, FAST),
            "reliability": tables.from_rows("reliability", reliability_rows(arms, n_cases)),
        },
        statistics=FAST,
        arms=arms,
        qualitative=tuple(
            make_slice(case, arms) for case in qualitative_cases(table, "dice", arms[0])
        ),
    )


def reliability_rows(arms: Arms, n_cases: int) -> list[dict[str, object]]:
    """Overconfident cases; the calibrated ones are nearly right, and one bin is empty."""
    return [
        {
            "experiment": "test",
            "model": model,
            "loss": loss,
            "seed": 0,
            "fold": case % 2,
            "case": f"mv{case:02d}",
            "calibrator": calibrator,
            "bin": index,
            "n_voxels": 0 if index == 3 else 100,
            "probability": (index + 0.5) / 5,
            "observed": min(1.0, (index + 0.5) / 5 * (0.7 if calibrator == "none" else 1.0))
            - 0.01 * case / n_cases,
        }
        for model, loss in arms
        for case in range(n_cases)
        for calibrator in ("none", "temperature", "local_temperature", "isotonic")
        for index in range(5)
    ]


def make_slice(case: str, arms: Arms) -> QualitativeCase:
    """A bar as reference, predictions one voxel off."""
    reference = np.zeros((24, 16), dtype=bool)
    reference[4:20, 6:9] = True
    return QualitativeCase(
        case=case,
        image=reference + np.linspace(0, 1, 24)[:, np.newaxis],
        reference=reference,
        predictions={arm: np.roll(reference, 1, axis=1) for arm in arms},
        spacing_um=(2.0, 2.0),
        seed=0,
    )


@pytest.fixture(scope="session")
def inputs() -> FigureInputs:
    return make_inputs()


@pytest.fixture(scope="session")
def inputs_of() -> Callable[..., FigureInputs]:
    return cache(make_inputs)
