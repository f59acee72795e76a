from __future__ import annotations

import pytest

from minivess.training.progress import COLUMNS, EpochRow, cells, clock, progress_table, remaining

ROWS = [
    EpochRow(1, 3, 1.25, 1e-3, {}, False, 2.0),
    EpochRow(2, 3, 0.75, 5e-4, {"dice": 0.4321}, True, 4.0),
    EpochRow(3, 3, 0.5, 0.0, {"dice": 0.4}, False, 2.0),
]


@pytest.mark.parametrize(
    ("seconds", "left", "text"),
    [
        ([1.0], 0, "0:00"),
        ([1.0], 59, "0:59"),
        ([1.0], 60, "1:00"),
        ([0.5], 3, "0:02"),
        ([60.0], 60, "1:00:00"),
        ([2.0, 100.0, 2.0], 10, "0:20"),
        ([3661.0], 1, "1:01:01"),
        ([3600.0], 30, "30:00:00"),
    ],
)
def test_the_time_left(seconds: list[float], left: int, text: str) -> None:
    assert remaining(seconds, left) == text


def test_cells_follow_the_columns() -> None:
    assert cells(ROWS[0], [2.0]) == ("1/3", "1.2500", "1.00e-03", "", "2.0", "0:04")
    assert cells(ROWS[1], [2.0, 4.0]) == ("2/3", "0.7500", "5.00e-04", "0.4321 best", "4.0", "0:04")
    assert all(len(cells(row, [1.0])) == len(COLUMNS) for row in ROWS)


@pytest.mark.parametrize("kind", ["plain", "auto"])
def test_plain_lines_go_to_stderr_one_per_epoch(
    capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    with progress_table(kind, "dynunet/dice_ce/seed0/fold0") as show:
        for row in ROWS:
            show(row)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("dynunet/dice_ce/seed0/fold0: epoch ") for line in lines)
    assert "selection Dice" not in lines[0]
    assert "selection Dice 0.4321 best" in lines[1]
    assert lines[0].endswith("left 0:04")
    assert lines[2].endswith("left 0:00")
    assert "\x1b" not in captured.err


def test_the_table_renders_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_table("rich", "demo") as show:
        for row in ROWS:
            show(row)
    captured = capsys.readouterr()
    assert captured.out == ""
    for text in ("demo", "epoch", "1/3", "2/3", "3/3", "0.4321", "best"):
        assert text in captured.err


def test_none_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_table("none", "demo") as show:
        show(ROWS[0])
    assert capsys.readouterr() == ("", "")


def test_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="auto, rich, plain or none"), progress_table("x", "demo"):
        pass


def test_an_error_in_the_block_is_not_swallowed() -> None:
    for kind in ("plain", "rich", "none"):
        with pytest.raises(KeyError), progress_table(kind, "demo"):
            raise KeyError("inside")


def test_the_clock_is_steady() -> None:
    times = [clock() for _ in range(10)]
    assert times == sorted(times)
