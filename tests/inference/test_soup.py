from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minivess.inference.soup import greedy_soup, uniform_soup

if TYPE_CHECKING:
    from minivess.inference.soup import Weights

NUMBERS = st.lists(st.integers(-8, 8), min_size=1, max_size=6)


def network(value: float) -> Weights:
    return {"layer.weight": torch.tensor([value, 2.0 * value])}


def test_every_tensor_is_averaged_under_its_name() -> None:
    random = torch.Generator().manual_seed(0)
    networks = [
        {name: torch.randn(4, 3, generator=random) for name in ("a.weight", "b.bias")}
        for _ in range(3)
    ]
    soup = uniform_soup(networks)
    assert list(soup) == ["a.weight", "b.bias"]
    for name, tensor in soup.items():
        assert tensor.dtype == torch.float32
        expected = torch.stack([one[name] for one in networks]).double().mean(dim=0).float()
        assert torch.allclose(tensor, expected, rtol=1e-6)


def test_a_soup_of_one_is_that_one_and_a_copy() -> None:
    one = network(0.1)
    soup = uniform_soup([one])
    assert torch.equal(soup["layer.weight"], one["layer.weight"])
    soup["layer.weight"] += 1
    assert not torch.equal(soup["layer.weight"], one["layer.weight"])


def test_counters_are_not_averaged() -> None:
    soup = uniform_soup([{"n": torch.tensor(4)}, {"n": torch.tensor(7)}])
    assert soup["n"] == 4
    assert not soup["n"].is_floating_point()


def near(target: float):  # type: ignore[no-untyped-def]
    return lambda weights: -abs(float(weights["layer.weight"][0]) - target)


def recipe(values: list[int], target: float) -> list[int]:
    """Recipe 1 of the paper, on numbers: the values of the soup, in the order they were added."""
    soup: list[int] = []
    for value in sorted(values, key=lambda value: abs(value - target)):
        tried = [*soup, value]
        old = abs(sum(soup) / len(soup) - target) if soup else float("inf")
        if abs(sum(tried) / len(tried) - target) <= old:
            soup = tried
    return soup


@given(NUMBERS, st.integers(-8, 8))
def test_greedy_soup_is_the_recipe(values: list[int], target: int) -> None:
    aim = target + 0.3141  # as far from no two means of so few whole numbers
    found = greedy_soup([network(value) for value in values], near(aim))
    expected = recipe(values, aim)
    assert [values[index] for index in found.ingredients] == expected
    mean = sum(expected) / len(expected)
    assert float(found.weights["layer.weight"][0]) == pytest.approx(mean, abs=1e-5)
    assert found.score == pytest.approx(-abs(mean - aim), abs=1e-5)


def test_a_greedy_soup_is_never_worse_than_its_best_ingredient() -> None:
    """Where averaging harms, as between networks that began apart, one is left."""
    found = greedy_soup([network(-1), network(1)], lambda w: abs(float(w["layer.weight"][0])))
    assert found.ingredients == (0,)
    assert found.score == 1


def test_nothing_is_no_soup() -> None:
    for make in (uniform_soup, lambda networks: greedy_soup(networks, near(0))):
        with pytest.raises(ValueError, match="ingredient"):
            make([])
