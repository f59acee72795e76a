from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from minivess import paths, seeding
from minivess.errors import MinivessError
from minivess.inference.averages import read_averages, swag_sample
from minivess.inference.ensemble import Member, check_distinct
from minivess.inference.soup import check_averageable

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = np.array([[1.0, 0.5, 0.0], [0.5, -1.0, 0.25]])
VARIANCE = np.array([0.04, 1.0, 0.25])
MEAN = np.array([1.0, -2.0, 0.5])


def averages() -> dict[str, torch.Tensor]:
    """Three weights in two tensors."""
    found = {"count": torch.tensor(7)}
    for name, part in (("a", slice(0, 2)), ("b", slice(2, 3))):
        found[f"mean.{name}"] = torch.from_numpy(MEAN[part])
        found[f"square.{name}"] = torch.from_numpy(VARIANCE[part] + MEAN[part] ** 2)
        for number, column in enumerate(COLUMNS):
            found[f"deviation.{number}.{name}"] = torch.from_numpy(column[part])
    return found


def test_samples_have_the_papers_mean_and_covariance() -> None:
    """Half of the diagonal and half of the low-rank part, also between tensors."""
    count = 5_000
    samples = np.empty((count, 3))
    for number in range(count):
        drawn = swag_sample(averages(), seeding.generator(0, "test", number))
        samples[number] = np.concatenate([drawn["a"].numpy(), drawn["b"].numpy()])
    expected = np.diag(VARIANCE) / 2 + COLUMNS.T @ COLUMNS / (2 * (len(COLUMNS) - 1))
    np.testing.assert_allclose(samples.mean(axis=0), MEAN, atol=0.06)
    np.testing.assert_allclose(np.cov(samples.T), expected, atol=0.06)


def test_a_sample_depends_on_its_number_alone() -> None:
    one, again, other = (
        swag_sample(averages(), seeding.generator(0, "swag", 0, number)) for number in (1, 1, 2)
    )
    assert one["a"].dtype == torch.float32
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["a"], other["a"])


def test_a_variance_below_rounding_is_no_error() -> None:
    still = averages()
    for name in ("a", "b"):
        still[f"square.{name}"] = still[f"mean.{name}"] ** 2 - 1e-12
    drawn = swag_sample(still, seeding.generator(0, "test"))
    assert torch.isfinite(drawn["a"]).all()


def test_nothing_kept_and_a_damaged_file(tmp_path: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        read_averages(tmp_path)
    assert caught.value.code == "MV-STATE-002"
    paths.averages(tmp_path).write_bytes(b"not weights")
    with pytest.raises(MinivessError) as caught:
        read_averages(tmp_path)
    assert caught.value.code == "MV-STATE-003"


def test_batch_normalisation_cannot_be_averaged() -> None:
    check_averageable(torch.nn.Sequential(torch.nn.InstanceNorm3d(2)), "swa")
    with pytest.raises(MinivessError, match="swa averages") as caught:
        check_averageable(torch.nn.Sequential(torch.nn.BatchNorm3d(2)), "swa")
    assert caught.value.code == "MV-CONFIG-004"


def test_equal_snapshots_are_no_ensemble() -> None:
    with pytest.raises(MinivessError, match="snapshot 0 and snapshot 1"):
        check_distinct([Member(f"snapshot {n}", "0" * 64, frozenset()) for n in (0, 1)])
