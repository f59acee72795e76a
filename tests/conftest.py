"""Order of the tests, and what those of several folders share.

What runs the whole DAG comes last, so that fast tests fail first. Of several workers one begins
with it, the longest first, while others run fast tests: none ends alone with a long one.
"""

from __future__ import annotations

import pytest

from minivess.environment import prepare_environment

prepare_environment()


@pytest.fixture(scope="session")
def monai() -> None:
    """MONAI as the package imports it: all of it, with all it looks at, takes fifteen seconds."""
    from minivess.monai_import import import_monai

    import_monai()


# Those that run an experiment of their own, the longest first.
LONGEST = (
    "test_data_to_service",
    "test_chaos",
    "test_sweep",
    "test_verify",
    "test_locked",
    "test_deploy",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)
    else:
        items.sort(key=lambda item: item.get_closest_marker("dag") is not None)


def _rank(item: pytest.Item) -> int:
    if item.get_closest_marker("dag") is None:
        return len(LONGEST) + 1
    return LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST)
