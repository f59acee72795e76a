from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minivess import paths, provenance
from minivess.errors import MinivessError
from minivess.reproducibility.compare import check_files, check_same, compare_digests

DIGESTS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["0" * 64, "1" * 64]))


@given(DIGESTS, DIGESTS)
def test_every_file_is_in_one_list(one: dict[str, str], two: dict[str, str]) -> None:
    compared = compare_digests(one, two)
    lists = (compared.equal, compared.differing, compared.missing, compared.additional)
    assert sorted(name for names in lists for name in names) == sorted(one.keys() | two.keys())
    assert compared.same == (one == two)


def test_the_first_file_of_the_dag_is_named_with_what_differs(tmp_path: Path) -> None:
    digests: list[dict[str, str]] = []
    for number in (1, 2):
        root = tmp_path / str(number)
        root.mkdir()
        for name in ("z.json", "a.json"):
            (root / name).write_text(f'{{"epochs": {number}}}', encoding="utf-8")
        digests.append({n: provenance.file_sha256(root / n) for n in ("z.json", "a.json")})
    compared = compare_digests(*digests)
    with pytest.raises(MinivessError, match="MV-STATE-006") as caught:
        check_same(tmp_path / "1", tmp_path / "2", compared, "a second run")
    assert caught.value.where.startswith("z.json")
    assert caught.value.found.startswith("epochs: 1 against 2")
    check_same(tmp_path / "1", tmp_path / "1", compare_digests(digests[0], digests[0]), "it")


def test_a_file_that_only_one_has(tmp_path: Path) -> None:
    compared = compare_digests({"a": "0"}, {})
    with pytest.raises(MinivessError, match="only one of the two"):
        check_same(tmp_path, tmp_path, compared, "a second run")


def test_results_changed_since(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    digests = {name: provenance.file_sha256(tmp_path / name) for name in ("a", "b", "c")}
    check_files(tmp_path, digests)
    (tmp_path / "b").write_text("B", encoding="utf-8")
    (tmp_path / "c").unlink()
    with pytest.raises(MinivessError, match="MV-STATE-005") as caught:
        check_files(tmp_path, digests)
    assert caught.value.where == str(paths.digests(tmp_path))
    assert caught.value.found.splitlines() == ["2 of 3 files:", "  b", "  c"]
