"""The diagram of mean ranks: places, bars and words are those of the table ranks."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivess.config.schema import FigureConfig, StatisticsConfig
from minivess.figures import FigureInputs
from minivess.figures.critical_difference import draw, joined
from minivess.statistics import tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

FIVE = tuple(("net", f"loss_{letter}") for letter in "abcde")
TEN_LONG = tuple(
    (f"a_network_with_a_long_name_{model}", f"a_loss_with_a_long_name_{loss}")
    for model in range(2)
    for loss in range(5)
)


def lines(figure: Figure, gid: str) -> list[Line2D]:
    return [line for line in figure.axes[0].lines if line.get_gid() == gid]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def said(figure: Figure) -> str:
    """The title on one line, with plain blanks."""
    return words(figure)[0].replace("\n", " ").replace("\u00a0", " ")


def inputs_of(
    arms: tuple[tuple[str, str], ...], cd: float = 1.25, p: float | None = 0.01
) -> FigureInputs:
    """The last arm is the best; mean ranks are 0.9 apart."""
    rows: list[dict[str, object]] = [
        {
            "metric": "dice",
            "model": model,
            "loss": loss,
            "n_cases": 12,
            "rank": place + 1,
            "rank_low": place + 1,
            "rank_high": place + 1,
            "first": float(place == 0),
            "mean_rank": 1.05 + 0.9 * place,
            "friedman_p": p,
            "critical_difference": cd,
            "plan_sha256": "0" * 64,
        }
        for place, (model, loss) in enumerate(reversed(arms))
    ]
    return FigureInputs({"ranks": tables.from_rows("ranks", rows)}, StatisticsConfig(), arms)


def test_places_bars_and_numbers_are_the_tables() -> None:
    figure = draw(inputs_of(FIVE), FigureConfig())
    [bar] = lines(figure, "cd")
    start, end = np.asarray(bar.get_xdata())
    starts = [float(np.asarray(line.get_xdata())[0]) for line in lines(figure, "arm")]
    ranks = [1 + (x - start) / (end - start) * 1.25 for x in starts]
    assert ranks == pytest.approx([1.05, 1.95, 2.85, 3.75, 4.65])
    names = [f"loss_{letter} ({rank:.2f})" for letter, rank in zip("edcba", ranks, strict=True)]
    assert [text.replace("\n", "") for text in words(figure)[-5:]] == names
    assert "CD 1.25" in words(figure)
    for line, first in zip(lines(figure, "joined"), range(4), strict=True):
        ends = np.asarray(line.get_xdata())
        assert ends[0] < starts[first] < starts[first + 1] < ends[1]


def test_arms_that_are_apart_or_cannot_be() -> None:
    assert lines(draw(inputs_of(FIVE, cd=0.9), FigureConfig()), "joined") == []
    wide = draw(inputs_of(FIVE, cd=4.5), FigureConfig())
    assert len(lines(wide, "joined")) == 1
    assert lines(wide, "cd") == []
    assert "CD 4.50 is longer than the axis." in said(wide)


@pytest.mark.parametrize(
    ("arms", "p", "told"),
    [
        (FIVE[:2], None, "Friedman's test needs three arms."),
        (FIVE, None, "Friedman's test is undefined"),
        (FIVE, 0.25, "p 0.2500, not below 0.05: no arms are shown to differ."),
        (FIVE, 0.01, "Friedman's test: p 0.0100."),
    ],
)
def test_friedmans_test_is_told(
    arms: tuple[tuple[str, str], ...], p: float | None, told: str
) -> None:
    title = said(draw(inputs_of(arms, p=p), FigureConfig()))
    assert told in title
    assert "Mean rank in Dice over 12 cases" in title


def test_one_arm_says_so() -> None:
    figure = draw(inputs_of(()), FigureConfig())
    assert words(figure)[0].startswith("Dice: no ranks.")
    assert len(figure.axes[0].lines) == 0


def test_an_ensemble_has_its_place() -> None:
    """Ensembles are in the tables but are no arms of the configuration."""
    figure = draw(replace(inputs_of(FIVE), arms=FIVE[:1]), FigureConfig())
    assert len(lines(figure, "arm")) == 5


@pytest.mark.parametrize("cd", [0.5, 20.0])
@pytest.mark.parametrize("width_mm", [40.0, 62.5, 170.0])
@pytest.mark.parametrize("arms", [FIVE[:2], FIVE, TEN_LONG], ids=["two", "five", "ten long"])
def test_texts_stay_inside_and_apart(
    cd: float, width_mm: float, arms: tuple[tuple[str, str], ...]
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = draw(inputs_of(arms, cd), FigureConfig(width_mm=width_mm))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    width, height = canvas.get_width_height()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    for box in boxes:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


@given(st.lists(st.floats(1, 9).map(lambda rank: round(rank, 3)), max_size=9).map(sorted))
def test_two_arms_are_in_a_group_where_they_are_near(ranks: list[float]) -> None:
    groups = joined(ranks, 1.5)
    for one, other in itertools.combinations(range(len(ranks)), 2):
        shared = any(first <= one and other <= last for first, last in groups)
        assert shared == (round(ranks[other] - ranks[one], 6) < 1.5)
    assert not any(
        a != b and a[0] >= b[0] and a[1] <= b[1] for a, b in itertools.product(groups, repeat=2)
    )
