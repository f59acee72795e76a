"""All calibrators: against independent implementations, and what each of them must do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.optimize import isotonic_regression
from scipy.special import expit

from minivess import calibration, seeding
from minivess.calibration import CALIBRATORS, Sample, choose_voxels, log_odds
from minivess.calibration.local_temperature import (
    TAPS,
    local_temperatures,
    neighbourhoods,
    temperature,
)
from minivess.config.calibration import CalibrationConfig
from minivess.errors import MinivessError

CONFIG = CalibrationConfig(local_steps=60)
SHAPE = (20, 18, 9)
TRUE_TEMPERATURE = 2.5


def make_sample(index: int, temperature: float = TRUE_TEMPERATURE, wanted: int = 3000) -> Sample:
    """A case whose probabilities are right once their log-odds are divided by `temperature`."""
    rng = seeding.generator(0, "calibrator-tests", index)
    smooth = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5)
    honest = 2.0 * smooth / smooth.std() - 1.5
    reference = rng.random(SHAPE) < expit(honest)
    probability = expit(honest * temperature).astype(np.float32)
    image = rng.standard_normal(SHAPE).astype(np.float32)
    voxels = choose_voxels(reference.size, wanted, 0, f"case{index}")
    return Sample(probability, image, reference, voxels)


SAMPLES = [make_sample(0), make_sample(1)]


def nll(probability: np.ndarray, reference: np.ndarray) -> float:
    p = np.clip(probability.astype(float), 1e-6, 1 - 1e-6)
    return float(-np.mean(np.where(reference, np.log(p), np.log(1 - p))))


@pytest.mark.parametrize("name", CALIBRATORS)
def test_overconfident_probabilities_get_better_on_another_case(name: str) -> None:
    fitted = calibration.fit(name, SAMPLES, CONFIG)
    other = make_sample(7)
    calibrated = calibration.apply(name, fitted, other.probability, other.image)
    assert calibrated.shape == SHAPE
    assert calibrated.dtype == np.float32
    assert 0 <= calibrated.min() <= calibrated.max() <= 1
    assert nll(calibrated, other.reference) < nll(other.probability, other.reference) - 0.1


@pytest.mark.parametrize("name", CALIBRATORS)
def test_a_fit_is_plain_numbers_and_the_same_twice(name: str) -> None:
    first, second = (calibration.fit(name, SAMPLES, CONFIG) for _ in range(2))
    assert json.loads(json.dumps(first)) == second
    other = make_sample(7)
    one, two = (
        calibration.apply(name, fit, other.probability, other.image)
        for fit in (first, json.loads(json.dumps(second)))
    )
    assert np.array_equal(one, two)


@pytest.mark.parametrize("name", ["temperature", "isotonic"])
def test_maps_of_the_probability_alone_never_fall(name: str) -> None:
    fitted = calibration.fit(name, SAMPLES, CONFIG)
    rising = np.linspace(0, 1, 501, dtype=np.float32).reshape(-1, 1, 1)
    calibrated = calibration.apply(name, fitted, rising, np.zeros_like(rising))
    assert (np.diff(calibrated.ravel()) >= 0).all()


def test_the_temperature_is_found_and_is_the_smallest_loss() -> None:
    found = calibration.fit("temperature", SAMPLES, CONFIG)["temperature"]
    assert found == pytest.approx(TRUE_TEMPERATURE, rel=0.1)
    odds = torch.tensor(np.concatenate([log_odds(s.probabilities()) for s in SAMPLES]))
    vessel = torch.tensor(np.concatenate([s.references() for s in SAMPLES]).astype(float))
    inverse = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([inverse], max_iter=100, tolerance_change=1e-14)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.binary_cross_entropy_with_logits(odds * inverse, vessel)
        value.backward()
        return value

    optimizer.step(loss)
    assert found == pytest.approx(1 / inverse.item(), abs=1e-4)


def test_isotonic_is_the_least_squares_rising_map() -> None:
    fitted = calibration.fit("isotonic", SAMPLES, CONFIG)
    probability = np.concatenate([s.probabilities() for s in SAMPLES])
    vessel = np.concatenate([s.references() for s in SAMPLES]).astype(float)
    values, place, count = np.unique(probability, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=vessel) / count
    expected = isotonic_regression(means, weights=count).x
    flat = values.astype(np.float32)
    calibrated = calibration.apply("isotonic", fitted, flat, flat)
    assert calibrated == pytest.approx(expected, abs=1e-5)


class Authors(torch.nn.Module):
    """The network of github.com/uncbiag/LTS as nine layers, each with its own mirrored border."""

    def __init__(self) -> None:
        super().__init__()

        def layer() -> torch.nn.Conv3d:
            return torch.nn.Conv3d(1, 1, 5, padding=4, dilation=2, padding_mode="reflect")

        self.leaf = torch.nn.ModuleList(layer() for _ in range(4))
        self.gate = torch.nn.ModuleList(layer() for _ in range(4))
        self.image = layer()

    def forward(self, odds: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        t1, t2, t3, t4 = (leaf(odds) + 1 for leaf in self.leaf)
        s1, s2, s3, s_image = (torch.sigmoid(gate(odds)) for gate in self.gate)
        left = t1 * s1 + t2 * (1 - s1)
        right = t3 * s2 + t4 * (1 - s2)
        logits_temperature = left * s3 + right * (1 - s3)
        mixed = logits_temperature * s_image + (self.image(image) + 1) * (1 - s_image)
        return torch.relu(mixed + 1) + 1e-8

    def fitted(self) -> dict[str, list[float]]:
        layers = [*self.leaf, *self.gate]
        return {
            "weights": [w for one in layers for w in one.weight.detach().ravel().tolist()],
            "biases": [one.bias.item() for one in layers],
            "image_weights": self.image.weight.detach().ravel().tolist(),
            "image_bias": [self.image.bias.item()],
        }


@pytest.mark.parametrize("slab", [2_000_000, 500])
def test_the_local_temperature_is_the_authors_network(
    slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minivess.calibration.local_temperature.SLAB_VOXELS", slab)
    sample = SAMPLES[0]
    with seeding.torch_seeded(0, "authors-network"):
        network = Authors()
    inputs = (log_odds(sample.probability).astype(np.float32), sample.image)
    with torch.no_grad():
        expected = network(*(torch.from_numpy(one)[None, None] for one in inputs))[0, 0].numpy()
    found = local_temperatures(network.fitted(), sample.probability, sample.image)
    assert expected.std() > 0.05
    assert found == pytest.approx(expected, abs=1e-5)


def test_training_sees_what_the_whole_volume_gives() -> None:
    sample = SAMPLES[1]
    with seeding.torch_seeded(1, "authors-network"):
        fitted = Authors().fitted()
    odds = log_odds(sample.probability).astype(np.float32)
    taps, image_taps = (
        torch.from_numpy(neighbourhoods(volume, sample.voxels)) for volume in (odds, sample.image)
    )
    weights, image_weights = (
        torch.tensor(fitted[name]).reshape(-1, TAPS**3) for name in ("weights", "image_weights")
    )
    maps = (taps @ weights.T + torch.tensor(fitted["biases"])).T
    image_map = (image_taps @ image_weights.T + torch.tensor(fitted["image_bias"]))[:, 0]
    whole = local_temperatures(fitted, sample.probability, sample.image)
    assert temperature(maps, image_map).numpy() == pytest.approx(
        whole.ravel()[sample.voxels], abs=1e-5
    )


def test_local_temperatures_tell_regions_apart() -> None:
    """Overconfident in one half, honest in the other: no single temperature is right."""
    hot, honest = make_sample(3, temperature=4.0, wanted=10**6), make_sample(3, temperature=1.0)
    half = np.broadcast_to((np.arange(SHAPE[1]) < SHAPE[1] // 2)[:, None], SHAPE)
    probability = np.where(half, hot.probability, honest.probability)
    image = np.where(half, 1.0, -1.0).astype(np.float32)
    mixed = Sample(probability, image, hot.reference, hot.voxels)
    fitted = calibration.fit("local_temperature", [mixed], CalibrationConfig())
    temperatures = local_temperatures(fitted, probability, image)
    assert temperatures.min() > 0
    assert np.median(temperatures[half]) > 1.5 * np.median(temperatures[~half])
    single = calibration.fit("temperature", [mixed], CONFIG)
    losses = [
        nll(calibration.apply(name, fit, probability, image), mixed.reference)
        for name, fit in (("local_temperature", fitted), ("temperature", single))
    ]
    assert losses[0] < losses[1]


def test_volumes_thinner_than_the_network_sees_are_mirrored() -> None:
    thin = make_sample(0).probability[..., :2]
    fitted = calibration.fit("local_temperature", SAMPLES, CONFIG)
    found = calibration.apply("local_temperature", fitted, thin, np.zeros_like(thin))
    assert found.shape == thin.shape
    assert np.isfinite(found).all()


def test_one_case_without_vessels_is_fitted() -> None:
    empty = Sample(
        SAMPLES[0].probability, SAMPLES[0].image, np.zeros(SHAPE, bool), SAMPLES[0].voxels
    )
    for name in CALIBRATORS:
        fitted = calibration.fit(name, [empty], CONFIG)
        calibrated = calibration.apply(name, fitted, empty.probability, empty.image)
        assert np.isfinite(calibrated).all()


def test_the_draw_of_voxels() -> None:
    chosen = choose_voxels(1000, 50, 0, "mv01")
    assert len(set(chosen.tolist())) == 50
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, choose_voxels(1000, 50, 0, "mv01"))
    assert not np.array_equal(chosen, choose_voxels(1000, 50, 1, "mv01"))
    assert not np.array_equal(chosen, choose_voxels(1000, 50, 0, "mv02"))


def test_none_is_the_probability_itself_and_unknown_names_are_errors() -> None:
    sample = SAMPLES[0]
    kept = calibration.apply("none", {}, sample.probability, sample.image)
    assert np.array_equal(kept, sample.probability)
    with pytest.raises(MinivessError, match="isotonic") as caught:
        calibration.fit("isotonik", SAMPLES, CONFIG)
    assert caught.value.code == "MV-CONFIG-003"
    with pytest.raises(ValueError, match="at least one case"):
        calibration.fit("isotonic", [], CONFIG)
