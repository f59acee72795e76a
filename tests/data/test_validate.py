"""Validation: one test per bad input, each with its code, its case and the way out."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest

from minivess.config.schema import DataConfig, Experiment, FoldsConfig, PatchConfig
from minivess.data.checks import ROW_CHECKS
from minivess.data.manifest import build_manifest
from minivess.data.published import MINIVESS_MD5
from minivess.data.sources import SourceCase, list_cases
from minivess.data.validate import PROBLEM_COLUMNS, accept, validate
from minivess.errors import CODES, MinivessError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_volumes = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"real volumes are not there: no folder {SHARED}"
)
SHAPE = (20, 16, 8)
AFFINE = np.diag([1.0, 1.0, 5.0, 1.0])
PATCH = PatchConfig(patch_size=(16, 16, 8))


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, code: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header["xyzt_units"] = code
    nib.save(image, path)


def without_z_spacing(path: Path) -> None:
    """Zero the z column of sform and qform, which nibabel refuses to write."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[88:92] = bytes(4)  # pixdim[3]
    for row in (280, 296, 312):  # srow_x, srow_y, srow_z
        data[row + 8 : row + 12] = bytes(4)
    path.write_bytes(gzip.compress(bytes(data)))


def image_of(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, shape).astype(np.uint16)


def label_of(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return (np.random.default_rng(seed + 100).random(shape) > 0.9).astype(np.uint8)


@pytest.fixture
def cases(tmp_path: Path) -> dict[str, SourceCase]:
    """Four good cases: a, b, c, d."""
    made = {}
    for seed, name in enumerate("abcd"):
        case = SourceCase(name, tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_y.nii.gz", name)
        save(case.image, image_of(seed))
        save(case.label, label_of(seed))
        made[name] = case
    return made


def problems_of(cases: dict[str, SourceCase], **sections: Any) -> pl.DataFrame:
    experiment = Experiment(**{"name": "x", "patches": PATCH, **sections})
    table = validate(build_manifest(list(cases.values()), experiment.data), experiment)
    assert table.columns == list(PROBLEM_COLUMNS)
    for row in table.iter_rows(named=True):
        assert row["code"] in CODES
        assert row["severity"] in ("error", "warning")
        assert all(row[name] for name in ("what", "where", "found", "expected", "fix")), row
    return table


def only(
    table: pl.DataFrame, code: str, case: str = "b", severity: str = "error"
) -> dict[str, str]:
    """The one problem of a table; an error also ends `accept` with its code, case and fix."""
    assert table["code"].to_list() == [code], table
    row = table.row(0, named=True)
    assert (row["case"], row["severity"]) == (case, severity)
    if severity == "warning":
        accept(table)
    else:
        with pytest.raises(MinivessError) as caught:
            accept(table)
        assert caught.value.code == "MV-DATA-017"
        assert caught.value.exit_status == 3
        for part in (case or "all cases", code, row["fix"]):
            assert part in str(caught.value)
    return row


def test_good_cases_have_no_problem(cases):
    table = problems_of(cases)
    assert table.height == 0
    accept(table)


def test_missing_file(cases):
    cases["b"].image.unlink()
    row = only(problems_of(cases), "MV-DATA-001")
    assert row["where"].endswith("b.nii.gz")
    assert row["fix"] == "correct the path, or leave the case out with data.exclude"


def test_truncated_label(cases):
    label = cases["b"].label
    label.write_bytes(label.read_bytes()[:-20])
    row = only(problems_of(cases), "MV-DATA-002")
    assert row["where"].endswith("b_y.nii.gz")
    assert "Compressed file ended" in row["found"]


def test_four_dimensions(cases):
    save(cases["b"].image, np.stack([image_of(1)] * 2, -1))
    assert "20 x 16 x 8 x 2" in only(problems_of(cases), "MV-DATA-003")["found"]


def test_other_shape(cases):
    save(cases["b"].label, label_of(1, (20, 16, 9)))
    row = only(problems_of(cases), "MV-DATA-004")
    assert row["found"] == "image 20 x 16 x 8, label 20 x 16 x 9"
    save(cases["b"].label, label_of(1, (8, 16, 20)))
    assert "axes are permuted" in only(problems_of(cases), "MV-DATA-004")["fix"]


@pytest.mark.parametrize(
    "affine",
    [np.diag([1, 1, 4.9, 1.0]), np.diag([-1, 1, 5, 1.0]), AFFINE + np.eye(4, k=3) * 0.5],
    ids=["spacing", "flip", "origin"],
)
def test_other_geometry(cases, affine):
    save(cases["b"].label, label_of(1), affine)
    row = only(problems_of(cases), "MV-DATA-005")
    assert "voxels apart" in row["found"]
    assert row["where"].endswith("b_y.nii.gz")


def test_header_noise_is_no_other_geometry(cases):
    for name, case in cases.items():
        save(case.label, label_of(ord(name)), AFFINE * (1 + 1e-6))
    assert problems_of(cases).height == 0


def test_label_without_unit_is_compared_in_the_unit_of_its_image(cases):
    save(cases["b"].label, label_of(1), AFFINE, code=0)
    assert problems_of(cases).height == 0


def test_label_in_other_named_unit(cases):
    save(cases["b"].label, label_of(1), AFFINE @ np.diag([1e-3, 1e-3, 1e-3, 1]), code=2)
    assert problems_of(cases).height == 0
    save(cases["b"].label, label_of(1), AFFINE, code=2)
    only(problems_of(cases), "MV-DATA-005")
    assert problems_of(cases, data=DataConfig(spacing_unit="um")).height == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nonfinite(cases, value):
    image = image_of(1).astype(np.float32)
    image[3, 3, 3] = value
    save(cases["b"].image, image)
    assert only(problems_of(cases), "MV-DATA-006")["found"] == "1 of 2560 voxels"


def test_label_values(cases):
    save(cases["b"].label, label_of(1) * np.uint8(255))
    row = only(problems_of(cases), "MV-DATA-007")
    assert row["found"] == "0, 255"
    assert "data.vessel_labels: [255]" in row["fix"]


def test_empty_label(cases):
    save(cases["b"].label, np.zeros(SHAPE, np.uint8))
    assert "the values are 0" in only(problems_of(cases), "MV-DATA-008")["found"]


def test_mapping_that_misses_a_label_names_its_values(cases):
    for name, case in cases.items():
        save(case.label, label_of(ord(name)) * np.uint8(254 if name == "b" else 255))
    problems = problems_of(cases, data=DataConfig(vessel_labels=(255,)))
    row = only(problems.filter(problems["severity"] == "error"), "MV-DATA-008")
    assert "the values are 0, 254, vessel is data.vessel_labels [255]" in row["found"]


@pytest.mark.parametrize("mapped", [None, (1,), (254, 255)])
def test_swapped_image_and_label(cases, mapped):
    """Some voxel of an image is as good as always 1, 254 or 255."""
    image = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.uint16)
    save(cases["b"].image, label_of(1))
    save(cases["b"].label, image)
    problems = problems_of({"b": cases["b"]}, data=DataConfig(vessel_labels=mapped))
    row = only(
        problems.filter(problems["case"] == "b", problems["severity"] == "error"), "MV-DATA-020"
    )
    assert "are image and label swapped?" in row["fix"]
    assert row["where"].endswith("b_y.nii.gz")
    assert not problems["fix"].str.contains("data.vessel_labels").any()


def test_more_values_in_the_label_than_in_an_image_of_two(cases):
    save(cases["b"].image, label_of(1) * np.uint8(255))
    label = label_of(2)
    label[0, 0, 0] = 2
    save(cases["b"].label, label)
    mapped = DataConfig(vessel_labels=(1, 2))
    assert only(problems_of(cases, data=mapped), "MV-DATA-020")["found"].startswith("3 values in")


@pytest.mark.parametrize("values", [(0, 1), (0, 254), (0, 255), tuple(range(15))])
def test_masks_of_few_values_are_labels(cases, values):
    for name, case in cases.items():
        label = label_of(ord(name)) * np.uint8(values[1])
        label.flat[: len(values)] = values
        save(case.label, label)
    assert problems_of(cases, data=DataConfig(vessel_labels=values[1:])).height == 0


def test_values_besides_the_mapped_ones_are_a_warning(cases):
    for name, case in cases.items():
        label = label_of(ord(name))
        if name == "b":
            label[0, 0, 0] = 3
        save(case.label, label)
    row = only(
        problems_of(cases, data=DataConfig(vessel_labels=(1,))), "MV-DATA-007", severity="warning"
    )
    assert row["case"] == "b"
    assert "3 count as background" in row["found"]


def test_a_spacing_typed_in_another_unit_is_a_warning(cases):
    cases["b"] = replace(cases["b"], spacing_um=(0.00099, 0.00099, 0.005))
    rows = problems_of(cases)
    row = rows.filter(rows["what"].str.contains("implausible")).to_dicts()[0]
    assert (row["code"], row["severity"], row["case"]) == ("MV-DATA-010", "warning", "b")


def test_full_label(cases):
    save(cases["b"].label, np.ones(SHAPE, np.uint8))
    only(problems_of(cases), "MV-DATA-016")


@pytest.mark.parametrize("fraction", ["tiny", "inverted"])
def test_suspicious_fraction_is_a_warning(cases, fraction):
    label = 1 - label_of(1)
    if fraction == "tiny":
        label = np.zeros(SHAPE, np.uint8)
        label[4, 4, 4:6] = 1
    save(cases["b"].label, label)
    only(problems_of(cases), "MV-DATA-016", severity="warning")


def test_zero_spacing(cases):
    without_z_spacing(cases["b"].image)
    row = only(problems_of(cases), "MV-DATA-009")
    assert row["found"] == "spacing 1 x 1 x 0 in the header"
    assert "data.spacing_um" in row["fix"]


def test_no_unit(cases):
    save(cases["b"].image, image_of(1), code=0)
    row = only(problems_of(cases), "MV-DATA-009")
    assert "1 x 1 x 5 without a unit" in row["found"]
    assert "data.spacing_unit: um" in row["fix"]
    assert problems_of(cases, data=DataConfig(spacing_unit="um")).height == 0


def test_micrometres_called_millimetres(cases):
    for name, case in cases.items():
        save(case.image, image_of(ord(name)), AFFINE, code=2)
        save(case.label, label_of(ord(name)), AFFINE, code=2)
    table = problems_of(cases)
    assert table["code"].to_list() == ["MV-DATA-010"] * 4
    row = table.row(1, named=True)
    assert row["found"] == "the header says 1 x 1 x 5 mm: voxels of 1000 x 1000 x 5000 um"
    assert "data.spacing_unit: um" in row["fix"]
    assert "data.spacing_unit: mm" in row["fix"]
    for unit in ("um", "mm"):
        assert problems_of(cases, data=DataConfig(spacing_unit=unit)).height == 0


@pytest.mark.parametrize("code", [0, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 300.0])
def test_a_unit_by_the_layout_is_checked_and_told(cases, code, scale):
    """Headers of MiniVess name none. One that lies is told; one that is right counts."""
    affine = AFFINE @ np.diag([scale, scale, scale, 1])
    for name, case in cases.items():
        save(case.image, image_of(ord(name)), affine, code=code)
        save(case.label, label_of(ord(name)), affine, code=code)
        cases[name] = replace(case, layout_unit="um")
    table = problems_of(cases, data=DataConfig(source="minivess"))
    if scale == 1e-3 and code == 2:
        assert table.height == 0, "true millimetres"
    elif scale == 1.0:
        assert table["severity"].to_list() == (["warning"] * len(cases) if code == 2 else [])
        accept(table)
    else:
        assert table["code"].to_list() == ["MV-DATA-010"] * len(cases)
        assert table["severity"].to_list() == ["error"] * len(cases)
    declared = DataConfig(source="minivess", spacing_unit="um")
    assert problems_of(cases, data=declared).height == 0


def test_millimetres_of_plausible_size_pass(cases):
    for name, case in cases.items():
        affine = AFFINE @ np.diag([1e-3, 1e-3, 1e-3, 1])
        save(case.image, image_of(ord(name)), affine, code=2)
        save(case.label, label_of(ord(name)), affine, code=2)
    assert problems_of(cases).height == 0


def test_declared_spacing_against_header_is_a_warning(cases):
    case = cases["b"]
    cases["b"] = SourceCase("b", case.image, case.label, "b", (1.0, 1.0, 6.0))
    row = only(problems_of(cases), "MV-DATA-010", severity="warning")
    assert row["found"] == "declared 1 x 1 x 6 um, header 1 x 1 x 5 um"


def test_spacing_that_differs_much_is_a_warning(cases):
    for file, array in ((cases["b"].image, image_of(1)), (cases["b"].label, label_of(1))):
        save(file, array, np.diag([4.0, 4.0, 5.0, 1.0]))
    row = only(problems_of(cases), "MV-DATA-010", severity="warning")
    assert "along x 1 um in a, 4 um in b; along y 1 um in a, 4 um in b" in row["found"]


def test_same_image_under_two_names(cases):
    shutil.copy(cases["a"].image, cases["b"].image)
    row = only(problems_of(cases), "MV-DATA-012")
    assert row["found"] == "the image of b is byte for byte that of a"
    assert "data.exclude: [b]" in row["fix"]


def test_same_label_under_two_names(cases):
    shutil.copy(cases["a"].label, cases["b"].label)
    assert "the label of b" in only(problems_of(cases), "MV-DATA-012")["found"]


def test_image_as_its_own_label(cases):
    shutil.copy(cases["b"].label, cases["b"].image)
    assert "same file" in only(problems_of(cases), "MV-DATA-012")["found"]


def test_constant_image(cases):
    save(cases["b"].image, np.full(SHAPE, 7, np.uint16))
    assert only(problems_of(cases), "MV-DATA-014")["found"] == "every voxel is 7"


def test_published_checksum_is_a_warning(cases):
    case = cases.pop("b")
    cases["mv01"] = SourceCase("mv01", case.image, case.label, "mv01")
    assert problems_of(cases).height == 0, "other sources may use the name"
    table = problems_of(cases, data=DataConfig(source="minivess"))
    assert table["code"].to_list() == ["MV-DATA-015"] * 2
    assert table["severity"].to_list() == ["warning"] * 2
    assert MINIVESS_MD5["mv01"][0] in table["expected"][0]
    accept(table)


def test_published_checksums_are_checksums():
    assert all(len(md5) == 32 and int(md5, 16) for pair in MINIVESS_MD5.values() for md5 in pair)
    assert len({md5 for pair in MINIVESS_MD5.values() for md5 in pair}) == 2 * len(MINIVESS_MD5)


def test_fewer_groups_than_folds(cases):
    for name in "cd":
        case = cases[name]
        cases[name] = SourceCase(name, case.image, case.label, "b")
    row = only(problems_of(cases), "MV-FOLDS-002", case="")
    assert "2 groups among 4 cases" in row["found"]
    assert problems_of(cases, folds=FoldsConfig(folds_file="own.json")).height == 0


@pytest.mark.parametrize(("n_folds", "good"), [(2, True), (3, True), (4, True), (5, False)])
def test_groups_that_folds_need(cases, n_folds, good):
    assert (problems_of(cases, folds=FoldsConfig(n_folds=n_folds)).height == 0) == good


def test_two_folds_need_two_groups_where_none_is_kept_for_selection(cases):
    for name in "cd":
        case = cases[name]
        cases[name] = SourceCase(name, case.image, case.label, "b")
    assert problems_of(cases, folds=FoldsConfig(n_folds=2)).height == 0
    case = cases["a"]
    cases["a"] = SourceCase("a", case.image, case.label, "b")
    row = only(problems_of(cases, folds=FoldsConfig(n_folds=2)), "MV-FOLDS-002", case="")
    assert row["expected"] == "at least 2 groups for 2 folds: one in each"
    assert "n_folds" not in row["fix"], "one group is too few for any folds"


@pytest.mark.parametrize(
    ("n_groups", "fraction", "fix"),
    [
        (3, 0.2, "set folds.n_folds: 3, or "),
        (2, 0.2, "set folds.n_folds: 2 and folds.selection_fraction: 0, or "),
        (2, 0.0, "set folds.n_folds: 2, or "),
        (1, 0.0, ""),
    ],
)
def test_as_many_folds_as_groups_are_offered_from_two_on(cases, n_groups, fraction, fix):
    for name in "abcd"[n_groups:]:
        case = cases[name]
        cases[name] = SourceCase(name, case.image, case.label, "a")
    folds = FoldsConfig(n_folds=4, selection_fraction=fraction)
    row = only(problems_of(cases, folds=folds), "MV-FOLDS-002", case="")
    assert row["fix"] == f"{fix}add cases, or give independent volumes groups of their own"


def test_groups_of_test_cases_are_not_for_folds(cases):
    folds = FoldsConfig(n_folds=3, test_cases=("a",))
    assert problems_of(cases, folds=folds).height == 0
    folds = FoldsConfig(n_folds=3, test_cases=("a", "b"))
    row = only(problems_of(cases, folds=folds), "MV-FOLDS-002", case="")
    assert "without the 2 of the test cases" in row["found"]


def test_patch_larger_than_the_smallest_volume(cases):
    save(cases["b"].image, image_of(1, (20, 16, 5)))
    save(cases["b"].label, label_of(1, (20, 16, 5)))
    row = only(problems_of(cases), "MV-PATCH-001")
    assert "8 voxels along z; b has 5" in row["found"]
    assert "up to 5" in row["fix"]


def test_all_problems_of_all_cases_at_once(cases):
    cases["a"].image.unlink()
    save(cases["b"].label, np.zeros(SHAPE, np.uint8))
    save(cases["c"].image, np.full(SHAPE, np.nan, np.float32), code=0)
    save(cases["d"].label, 1 - label_of(3))
    table = problems_of(cases)
    assert table.select("case", "code").rows() == [
        ("a", "MV-DATA-001"),
        ("b", "MV-DATA-008"),
        ("c", "MV-DATA-006"),
        ("c", "MV-DATA-009"),
        ("d", "MV-DATA-016"),
    ]
    with pytest.raises(MinivessError, match="4 errors in 3 cases"):
        accept(table)


def test_accept_shows_twenty_and_counts_the_rest():
    row = dict.fromkeys(PROBLEM_COLUMNS, "text") | {"severity": "error", "code": "MV-DATA-001"}
    table = pl.DataFrame([row | {"case": f"case{n:02d}"} for n in range(23)])
    with pytest.raises(MinivessError) as caught:
        accept(table)
    assert "case19" in str(caught.value)
    assert "case20" not in str(caught.value)
    assert "and 3 more" in str(caught.value)


def test_every_check_has_a_severity():
    assert {severity for severity, _ in ROW_CHECKS.values()} == {"error", "warning"}


def real(path: Path, tmp_path: Path, rows: str, **data: Any) -> pl.DataFrame:
    list_ = tmp_path / "cases.csv"
    list_.write_text("case,image,label\n" + rows.replace("@", str(path)), encoding="utf-8")
    config = DataConfig(source="csv", path=str(list_), **data)
    experiment = Experiment(name="x", data=config, patches=PATCH)
    manifest = build_manifest(list_cases(experiment, tmp_path), config)
    return validate(manifest, experiment).filter(pl.col("code") != "MV-FOLDS-002")


@needs_volumes
def test_real_octa_needs_spacing_and_mapping(tmp_path):
    rows = "oct,@/OCTA-Data.tif,@/OCTA-Labels.tif\n"
    table = real(SHARED / "octa", tmp_path, rows)
    assert table["code"].to_list() == ["MV-DATA-007", "MV-DATA-009"]
    table = real(SHARED / "octa", tmp_path, rows, spacing_um=(3, 3, 3), vessel_labels=(255,))
    assert table.height == 0


@needs_volumes
def test_real_aorta_needs_its_unit(tmp_path):
    rows = "aorta,@/ct_cropped.nii.gz,@/aorta.nii.gz\n"
    table = real(SHARED / "aorta_cta", tmp_path, rows)
    assert table["code"].to_list() == ["MV-DATA-009"]
    assert "data.spacing_unit: mm" in table["fix"][0]
    assert real(SHARED / "aorta_cta", tmp_path, rows, spacing_unit="mm").height == 0


@needs_volumes
def test_real_stacks_need_their_mapping():
    path = str(SHARED / "vesselnn" / "cases.csv")
    for mapping, codes in (
        (None, ["MV-DATA-007"] * 6),
        ((255,), ["MV-DATA-008"]),
        ((254, 255), []),
    ):
        data = DataConfig(source="csv", path=path, vessel_labels=mapping)
        experiment = Experiment(name="x", data=data, patches=PATCH)
        table = validate(build_manifest(list_cases(experiment, Path("r")), data), experiment)
        errors = table.filter(pl.col("severity") == "error")
        assert errors["code"].to_list() == codes
