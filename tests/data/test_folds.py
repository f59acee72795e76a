from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.config.schema import FoldsConfig
from minivess.data.folds import (
    Fold,
    Folds,
    check_folds,
    make_folds,
    manifest_digest,
    read_folds,
    read_folds_file,
    write_folds,
)
from minivess.errors import MinivessError

REFERENCE = Path(__file__).parents[3] / "shared" / "folds_minivess_3fold_seed42.json"


def make_manifest(
    groups: list[int], fractions: list[float] | None = None, names: list[str] | None = None
) -> pl.DataFrame:
    """A manifest with so many cases in each group."""
    group_of = [f"g{number:02d}" for number, size in enumerate(groups) for _ in range(size)]
    n_cases = len(group_of)
    rng = np.random.default_rng(n_cases)
    fractions = fractions or [float(value) for value in rng.uniform(0.01, 0.3, n_cases)]
    return pl.DataFrame(
        {
            "case": names or [f"c{number:03d}" for number in range(n_cases)],
            "group": group_of,
            "spacing_um": [[1.0, 1.0, 5.0]] * n_cases,
            "vessel_fraction": fractions,
            "image_sha256": [f"i{number}" for number in range(n_cases)],
            "label_sha256": [f"l{number}" for number in range(n_cases)],
        }
    )


def groups_of(manifest: pl.DataFrame) -> dict[str, str]:
    return dict(manifest.select("case", "group").rows())


def folds_file(folder: Path, lists: list[tuple[list[str], list[str]]]) -> str:
    path = folder / "folds.json"
    folds = [{"train": train, "val": validation} for train, validation in lists]
    path.write_text(json.dumps({"folds": folds}), encoding="utf-8")
    return str(path)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(1, 5), min_size=6, max_size=20),
    st.integers(2, 5),
    st.integers(0, 1000),
    st.sampled_from([0.1, 0.2, 0.5, 0.9]),
)
def test_folds_are_grouped_disjoint_and_cover_each_case_once(
    sizes: list[int], n_folds: int, seed: int, fraction: float
) -> None:
    manifest = make_manifest(sizes)
    config = FoldsConfig(n_folds=n_folds, folds_seed=seed, selection_fraction=fraction)
    made = make_folds(manifest, config)
    group_of, everyone = groups_of(manifest), set(manifest["case"])
    assert len(made.folds) == n_folds
    assert sorted(case for fold in made.folds for case in fold.validation) == sorted(everyone)
    for fold in made.folds:
        lists = (fold.train, fold.selection, fold.validation)
        assert all(lists)
        assert {case for cases in lists for case in cases} == everyone
        assert sum(len(cases) for cases in lists) == len(everyone)
        groups = [{group_of[case] for case in cases} for cases in lists]
        assert not groups[0] & groups[1]
        assert not groups[0] & groups[2]
        assert not groups[1] & groups[2]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 3), min_size=6, max_size=12), st.integers(0, 100))
def test_folds_depend_on_the_seed_and_not_on_the_order_of_the_rows(
    sizes: list[int], seed: int
) -> None:
    manifest = make_manifest(sizes)
    config = FoldsConfig(folds_seed=seed)
    shuffled = manifest.sample(fraction=1.0, shuffle=True, seed=seed)
    assert make_folds(manifest, config) == make_folds(shuffled, config)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 3), min_size=4, max_size=12), st.integers(2, 4))
def test_with_a_fraction_of_0_all_that_is_not_held_out_trains(
    sizes: list[int], n_folds: int
) -> None:
    manifest = make_manifest(sizes)
    with_some = make_folds(manifest, FoldsConfig(n_folds=n_folds))
    without = make_folds(manifest, FoldsConfig(n_folds=n_folds, selection_fraction=0))
    for fold, other in zip(without.folds, with_some.folds, strict=True):
        assert fold.selection == ()
        assert fold.train == tuple(sorted((*other.train, *other.selection)))
        assert fold.validation == other.validation


def test_folds_without_selection_are_read_as_written(tmp_path: Path) -> None:
    path = folds_file(tmp_path, [(["c000"], ["c001"]), (["c001"], ["c000"])])
    manifest = make_manifest([1, 1])
    made = make_folds(manifest, FoldsConfig(selection_fraction=0, folds_file=path))
    assert [fold.train for fold in made.folds] == [("c000",), ("c001",)]
    write_folds(made, tmp_path / "made.json")
    assert read_folds(tmp_path / "made.json") == made
    with pytest.raises(MinivessError, match=r"set folds\.selection_fraction: 0"):
        make_folds(manifest, FoldsConfig(folds_file=path))


@pytest.mark.parametrize(
    ("fraction", "selecting"), [(0.1, 1), (0.2, 1), (0.4, 2), (0.5, 2), (0.75, 3), (0.95, 3)]
)
def test_the_part_that_selects_is_rounded_and_leaves_some_to_train(
    fraction: float, selecting: int
) -> None:
    made = make_folds(make_manifest([1] * 6), FoldsConfig(selection_fraction=fraction))
    for fold in made.folds:
        assert (len(fold.train), len(fold.selection)) == (4 - selecting, selecting)


def test_seeds_give_different_folds() -> None:
    manifest = make_manifest([1] * 12)
    made = {make_folds(manifest, FoldsConfig(folds_seed=seed)).folds for seed in range(5)}
    assert len(made) == 5


def test_folds_are_more_alike_than_random_ones() -> None:
    rng = np.random.default_rng(3)
    fractions = [float(value) for value in rng.permutation(np.geomspace(0.01, 0.4, 24))]
    manifest = make_manifest([1] * 24, fractions)
    of_case = dict(zip(manifest["case"], fractions, strict=True))

    def spread(parts: list[list[float]]) -> float:
        means = [float(np.mean(part)) for part in parts]
        return max(means) - min(means)

    stratified = [
        spread(
            [
                [of_case[case] for case in fold.validation]
                for fold in make_folds(manifest, FoldsConfig(folds_seed=seed)).folds
            ]
        )
        for seed in range(30)
    ]
    random = [
        spread([list(part) for part in np.split(rng.permutation(fractions), 3)]) for _ in range(300)
    ]
    assert np.mean(stratified) < 0.5 * np.mean(random)
    assert max(stratified) < np.median(random)


def test_coarse_volumes_are_spread_over_the_folds() -> None:
    manifest = make_manifest([1] * 12).with_columns(
        spacing_um=pl.Series([[5.0, 5.0, 5.0]] * 3 + [[1.0, 1.0, 5.0]] * 9)
    )
    for seed in range(10):
        made = make_folds(manifest, FoldsConfig(folds_seed=seed))
        coarse = [len({"c000", "c001", "c002"} & set(fold.validation)) for fold in made.folds]
        assert coarse == [1, 1, 1]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 6), min_size=9, max_size=20), st.integers(0, 50))
def test_folds_are_of_similar_size(sizes: list[int], seed: int) -> None:
    made = make_folds(make_manifest(sizes), FoldsConfig(folds_seed=seed))
    counts = [len(fold.validation) for fold in made.folds]
    assert max(counts) - min(counts) <= max(sizes)


@pytest.mark.parametrize("column", ["image_sha256", "label_sha256", "group", "case"])
def test_the_digest_follows_the_content(column: str) -> None:
    manifest = make_manifest([1, 2, 3])
    changed = manifest.with_columns(
        pl.when(pl.arange(0, pl.len()) == 3)
        .then(pl.lit("other"))
        .otherwise(pl.col(column))
        .alias(column)
    )
    assert manifest_digest(changed) != manifest_digest(manifest)
    assert manifest_digest(manifest.reverse()) == manifest_digest(manifest)


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference folds at {REFERENCE}")
def test_the_published_folds_are_accepted_as_they_are() -> None:
    published = json.loads(REFERENCE.read_text(encoding="utf-8"))["folds"]
    names = sorted(published[0]["train"] + published[0]["validation"])
    assert len(names) == 70
    manifest = make_manifest([1] * 70, names=names)
    made = make_folds(manifest, FoldsConfig(folds_file=str(REFERENCE), n_folds=5))
    assert len(made.folds) == 3, "the file brings its own number of folds"
    for fold, wanted in zip(made.folds, published, strict=True):
        assert list(fold.validation) == sorted(wanted["validation"])
        assert sorted([*fold.train, *fold.selection]) == sorted(wanted["train"])
        assert len(fold.selection) == round(0.2 * len(wanted["train"]))


SIX = ["c000", "c001", "c002", "c003", "c004", "c005"]
GOOD = [(SIX[2:], SIX[:2]), ([*SIX[:2], *SIX[4:]], SIX[2:4]), (SIX[:4], SIX[4:])]


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = folds_file(tmp_path, GOOD)
    made = make_folds(make_manifest([1] * 6), FoldsConfig(folds_file=path))
    assert [list(fold.validation) for fold in made.folds] == [cases for _, cases in GOOD]
    assert made == make_folds(make_manifest([1] * 6), FoldsConfig(folds_file=path))


def test_a_file_that_splits_a_group_is_refused(tmp_path: Path) -> None:
    path = folds_file(tmp_path, GOOD)
    with pytest.raises(MinivessError) as caught:
        # c001 and c002 are of one group
        make_folds(make_manifest([1, 2, 1, 1, 1]), FoldsConfig(folds_file=path))
    assert caught.value.code == "MV-FOLDS-001"
    assert "g01" in caught.value.what
    assert "c001" in caught.value.found
    assert "c002" in caught.value.found


def test_a_file_with_a_case_on_both_sides_is_refused(tmp_path: Path) -> None:
    path = folds_file(tmp_path, [(SIX, SIX[:2]), *GOOD[1:]])
    with pytest.raises(MinivessError) as caught:
        make_folds(make_manifest([1] * 6), FoldsConfig(folds_file=path))
    assert caught.value.code == "MV-FOLDS-001"


@pytest.mark.parametrize(
    ("lists", "word"),
    [
        ([*GOOD[:2], (SIX[:4], ["c004", "mv99"])], "mv99"),
        ([*GOOD[:2], (SIX[:4], ["c004"])], "c005"),
        ([*GOOD[:2], (SIX[:3], [*SIX[4:], "c003"])], "c003"),
        ([(SIX[2:], SIX[:2]), GOOD[1], ([*SIX[:4], "stray"], SIX[4:])], "stray"),
    ],
    ids=["unknown", "never validated", "twice", "unknown in training"],
)
def test_a_file_for_other_cases_is_refused(
    tmp_path: Path, lists: list[tuple[list[str], list[str]]], word: str
) -> None:
    path = folds_file(tmp_path, lists)
    with pytest.raises(MinivessError) as caught:
        make_folds(make_manifest([1] * 6), FoldsConfig(folds_file=path))
    assert caught.value.code == "MV-FOLDS-003"
    assert word in caught.value.found
    assert caught.value.where == path


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"folds": [{"train": ["a"]}]}', '{"folds": 3}', '{"folds": ["a"]}']
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "folds.json").write_text(text, encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        read_folds_file(tmp_path / "folds.json")
    assert caught.value.code == "MV-FOLDS-003"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        make_folds(make_manifest([1] * 6), FoldsConfig(folds_file=str(tmp_path / "no.json")))
    assert caught.value.code == "MV-FOLDS-003"
    assert "no.json" in caught.value.where


@pytest.mark.parametrize(
    ("n_groups", "n_folds", "fraction"),
    [
        *((*counts, 0.2) for counts in ((2, 2), (3, 2), (2, 3), (3, 4), (4, 5), (1, 2))),
        *((*counts, 0.0) for counts in ((1, 2), (2, 3), (4, 5))),
    ],
)
def test_too_few_groups_are_refused_with_a_fix_that_works(
    n_groups: int, n_folds: int, fraction: float
) -> None:
    manifest = make_manifest([3] * n_groups)
    config = FoldsConfig(n_folds=n_folds, selection_fraction=fraction)
    with pytest.raises(MinivessError) as caught:
        make_folds(manifest, config)
    assert caught.value.code == "MV-FOLDS-002"
    *fixes, last = caught.value.fix.split(", or ")
    assert last == "add cases"
    fewer = n_groups >= 2 and n_groups != n_folds
    assert len(fixes) == fewer + (fraction > 0 and n_groups >= n_folds)
    for fix in fixes:
        assert make_folds(manifest, changed(config, fix)).folds
    enough = int(caught.value.expected.split()[2].strip(":"))
    assert make_folds(make_manifest([1] * enough), config).folds


def changed(config: FoldsConfig, fix: str) -> FoldsConfig:
    """The config after what the fix of an error asks for."""
    pairs = [pair.split(": ") for pair in fix.removeprefix("set ").split(" and ")]
    values = {key.removeprefix("folds."): int(value) for key, value in pairs}
    assert {"n_folds", "selection_fraction"} >= set(values)
    return config.model_copy(update=values)


@pytest.mark.parametrize(
    ("training", "fraction", "helps"),
    [(["c000"], 0.2, True), ([], 0.2, False), ([], 0.0, False)],
)
def test_a_fold_of_a_file_that_trains_on_too_little_is_named(
    tmp_path: Path, training: list[str], fraction: float, helps: bool
) -> None:
    """The file decides on the number of folds: `n_folds` would change nothing."""
    manifest = make_manifest([1] * 4)
    own = ["c000", "c001"], ["c002", "c003"]
    path = folds_file(tmp_path, [(list(own[1]), own[0]), (training, own[1])])
    config = FoldsConfig(folds_file=path, selection_fraction=fraction)
    with pytest.raises(MinivessError) as caught:
        make_folds(manifest, config)
    error = caught.value
    assert error.code == "MV-FOLDS-002"
    assert error.where == f"{path}, fold 1"
    assert error.found == f"{len(training)} group(s) of cases in train"
    assert "n_folds" not in str(error)
    *fixes, last = error.fix.split(", or ")
    assert last == "list cases of more groups in train of that fold"
    assert len(fixes) == helps
    for fix in fixes:
        assert make_folds(manifest, changed(config, fix)).folds
    folds_file(tmp_path, [(list(own[1]), own[0]), (list(own[0]), own[1])])
    assert make_folds(manifest, config).folds


def test_test_cases_are_locked_away() -> None:
    manifest = make_manifest([1] * 5 + [2])
    made = make_folds(manifest, FoldsConfig(test_cases=("c006", "c005")))
    assert made.test == ("c005", "c006")
    for fold in made.folds:
        assert not {"c005", "c006"} & {*fold.train, *fold.selection, *fold.validation}
    assert sorted(case for fold in made.folds for case in fold.validation) == SIX[:5]


def test_half_a_group_cannot_be_locked_away() -> None:
    with pytest.raises(MinivessError) as caught:
        make_folds(make_manifest([1] * 5 + [2]), FoldsConfig(test_cases=("c005",)))
    assert caught.value.code == "MV-FOLDS-001"
    assert "c006" in caught.value.found


def test_an_unknown_test_case_is_named_with_its_neighbour() -> None:
    with pytest.raises(MinivessError) as caught:
        make_folds(make_manifest([1] * 6), FoldsConfig(test_cases=("c0003",)))
    assert caught.value.code == "MV-FOLDS-003"
    assert "c003" in caught.value.fix


def test_a_locked_case_may_not_return_through_a_file(tmp_path: Path) -> None:
    path = folds_file(tmp_path, GOOD)
    with pytest.raises(MinivessError) as caught:
        make_folds(make_manifest([1] * 6), FoldsConfig(folds_file=path, test_cases=("c003",)))
    assert caught.value.code == "MV-FOLDS-003"
    assert "locked away" in caught.value.found


@pytest.mark.parametrize(
    "fold",
    [
        Fold(("a",), ("b",), ("c", "a2")),
        Fold(("a",), ("a2",), ("c",)),
        Fold(("b",), ("a",), ("a2",)),
        Fold(("b", "t2"), ("a",), ("c",)),
    ],
)
def test_a_group_in_two_lists_is_found(fold: Fold) -> None:
    group_of = {"a": "A", "a2": "A", "b": "B", "c": "C", "t": "T", "t2": "T"}
    with pytest.raises(MinivessError) as caught:
        check_folds(Folds((fold,), ("t",), "digest"), group_of)
    assert caught.value.code == "MV-FOLDS-001"


def test_written_folds_are_read_back_and_the_same_bytes(tmp_path: Path) -> None:
    manifest = make_manifest([2, 1, 3, 1, 1, 2, 1])
    made = make_folds(manifest, FoldsConfig(test_cases=("c000", "c001")))
    write_folds(made, tmp_path / "a.json")
    write_folds(read_folds(tmp_path / "a.json"), tmp_path / "b.json")
    assert read_folds(tmp_path / "a.json") == made
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert made.manifest_digest == manifest_digest(manifest)


@pytest.mark.parametrize("text", ['{"folds": [', "{}", '{"folds": [{"train": []}]}', "[]"])
def test_damaged_folds_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "folds.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        read_folds(path)
    assert caught.value.code == "MV-STATE-003"
    assert caught.value.where == str(path)
    assert "delete the file" in caught.value.fix


def test_folds_that_were_never_made_are_an_earlier_step(tmp_path: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        read_folds(tmp_path / "folds.json")
    assert caught.value.code == "MV-STATE-002"
