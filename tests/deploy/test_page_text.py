"""The page's words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_bundle import make_bundle

from minivess.data.geometry import Geometry, diagonal_affine
from minivess.data.volume import Volume
from minivess.deploy import page_text, viewing
from minivess.deploy.views import Statistic
from minivess.errors import MinivessError
from minivess.types import Spacing

EVIL = "<script>alert(1)</script>"


def viewed(spacing: Spacing, name: str = "a.nii") -> viewing.Viewed:
    geometry = Geometry((4, 4, 2), diagonal_affine(spacing))
    return viewing.view(name, Volume(np.arange(32).reshape(4, 4, 2), geometry))


def test_names_and_texts_from_elsewhere_are_no_html(tmp_path: Path) -> None:
    error = MinivessError("MV-DATA-002", what=EVIL, where=EVIL, found=EVIL, expected=EVIL, fix=EVIL)
    statistic = Statistic(EVIL, EVIL, 1.0, EVIL, EVIL)
    texts = [
        page_text.error_box(error),
        page_text.header(EVIL, EVIL),
        page_text.volume_line(viewed((1, 1, 5), EVIL), (1, 1, 1)),
        page_text.done_line(viewed((1, 1, 5), EVIL), 1.0),
        page_text.asking(EVIL),
        page_text.statistics_table((statistic,)),
    ]
    assert all("<script" not in text and "&lt;script" in text for text in texts)


def test_an_error_says_what_was_found_and_what_to_do_and_not_where() -> None:
    error = MinivessError("MV-DATA-002", "it is bad", "/tmp/secret/a.nii", "nothing", "a lot", "go")
    text = page_text.error_box(error)
    for part in ("It is bad", "nothing", "a lot", "go", "MV-DATA-002", 'role="alert"'):
        assert part in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("spacing", "warned"),
    [((1, 1, 5), False), ((1.4, 1, 5), False), ((2, 1, 5), True), ((1, 1, 3), True)],
)
def test_a_spacing_unlike_that_of_the_training_is_pointed_out(
    spacing: Spacing, warned: bool
) -> None:
    assert ("mv-warning" in page_text.volume_line(viewed(spacing), (1, 1, 5))) == warned


def test_a_changed_threshold_leaves_the_evaluated_model() -> None:
    assert "evaluated with" in page_text.threshold_note(0.4, 0.4)
    assert "0.5 instead of 0.4" in page_text.threshold_note(0.5, 0.4)


def test_the_model_is_shown_with_its_interval(tmp_path: Path) -> None:
    text = page_text.model_facts(make_bundle(tmp_path))
    for part in ("4 held-out cases", "95% interval", "Dice", "0.8", "0.7 to 0.9"):
        assert part in text
