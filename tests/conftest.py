"""Order of the tests: what runs the whole DAG comes last, so that fast tests fail first."""

from __future__ import annotations

import pytest

from minivess.environment import prepare_environment

prepare_environment()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("dag") is not None)
