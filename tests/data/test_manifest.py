"""The manifest: facts, the rule for the spacing, and problems that do not stop it."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import polars as pl
import pytest
import tifffile
from skimage.measure import label as components

from minivess.config.schema import DataConfig, Experiment
from minivess.data.geometry import Geometry
from minivess.data.manifest import (
    MANIFEST,
    build_manifest,
    geometry_of,
    manifest_schema,
    read_image,
    read_label,
    read_manifest,
)
from minivess.data.sources import SourceCase, list_cases
from minivess.data.volume import write_volume
from minivess.errors import MinivessError
from minivess.output import write_parquet

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_volumes = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"real volumes are not there: no folder {SHARED}"
)
SHAPE = (16, 12, 6)


def volumes(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 4096, SHAPE).astype(np.uint16)
    return image, (generator.random(SHAPE) > 0.9).astype(np.uint8)


def case_in(
    folder: Path,
    affine: np.ndarray | None = None,
    code: int = 3,
    name: str = "a",
    **options: Any,
) -> SourceCase:
    """A NIfTI pair whose header has this affine and unit code, or a TIFF pair without."""
    image, label = volumes()
    folder.mkdir(exist_ok=True)
    paths = []
    for kind, array in (("image", image), ("label", label)):
        if affine is None:
            path = folder / f"{name}_{kind}.tif"
            tifffile.imwrite(path, np.ascontiguousarray(array.transpose(2, 1, 0)))
        else:
            path = folder / f"{name}_{kind}.nii.gz"
            nifti = nib.Nifti1Image(array, affine)
            nifti.header["xyzt_units"] = code
            nib.save(nifti, path)
        paths.append(path)
    return SourceCase(name, *paths, group=name, **options)


def without_z_spacing(path: Path) -> None:
    """Zero the z column of sform and qform, which nibabel refuses to write."""
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[88:92] = bytes(4)  # pixdim[3]
    for row in (280, 296, 312):  # srow_x, srow_y, srow_z
        data[row + 8 : row + 12] = bytes(4)
    path.write_bytes(gzip.compress(bytes(data)))


def row_of(case: SourceCase, **data: Any) -> dict[str, Any]:
    return build_manifest([case], DataConfig(**data)).row(0, named=True)


DIAGONAL = np.diag([-0.5, 0.5, 2.0, 1.0])


def test_facts(tmp_path):
    case = case_in(tmp_path, DIAGONAL)
    image, label = volumes()
    row = row_of(case)
    assert list(row) == list(MANIFEST)
    assert row["case"] == "a"
    assert row["image"] == case.image.as_posix()
    assert row["image_sha256"] == hashlib.sha256(case.image.read_bytes()).hexdigest()
    assert row["label_md5"] == hashlib.md5(case.label.read_bytes()).hexdigest()
    assert row["shape"] == list(SHAPE) == row["label_shape"]
    assert (row["dtype"], row["label_dtype"]) == ("uint16", "uint8")
    found = [row[name] for name in ("intensity_min", "p1", "p50", "p99", "p999", "intensity_max")]
    np.testing.assert_allclose(found, np.percentile(image, [0, 1, 50, 99, 99.9, 100]))
    assert row["vessel_fraction"] == label.mean()
    assert row["n_components"] == components(label, connectivity=3).max()
    assert row["label_values"] == [0, 1]
    assert row["read_error"] == row["label_read_error"] == ""
    assert row["affine"] == DIAGONAL.ravel().tolist()


def test_equal_input_gives_equal_bytes(tmp_path):
    cases = [case_in(tmp_path, DIAGONAL, name="a"), case_in(tmp_path, None, name="b")]
    for name in ("one", "two"):
        write_parquet(build_manifest(cases, DataConfig()), tmp_path / f"{name}.parquet")
    one, two = ((tmp_path / f"{name}.parquet").read_bytes() for name in ("one", "two"))
    assert one == two
    assert read_manifest(tmp_path / "one.parquet").equals(build_manifest(cases, DataConfig()))


def test_read_manifest_errors(tmp_path):
    with pytest.raises(MinivessError) as caught:
        read_manifest(tmp_path / "manifest.parquet")
    assert caught.value.code == "MV-STATE-002"
    write_parquet(pl.DataFrame({"case": ["a"]}), tmp_path / "manifest.parquet")
    with pytest.raises(MinivessError, match="column") as caught:
        read_manifest(tmp_path / "manifest.parquet")
    assert caught.value.code == "MV-STATE-003"


def test_schema_refuses_duplicate_cases(tmp_path):
    table = build_manifest([case_in(tmp_path, DIAGONAL)], DataConfig())
    with pytest.raises(Exception, match=r"unique|duplicate"):
        manifest_schema().validate(pl.concat([table, table]))


@pytest.mark.parametrize(
    ("affine", "code", "case_options", "data", "spacing", "source", "unit_um"),
    [
        (DIAGONAL, 3, {}, {}, (0.5, 0.5, 2.0), "header", 1.0),
        (DIAGONAL / 1000, 2, {}, {}, (0.5, 0.5, 2.0), "header", 1000.0),
        (DIAGONAL, 0, {}, {}, None, None, None),
        (DIAGONAL, 0, {}, {"spacing_unit": "um"}, (0.5, 0.5, 2.0), "header", 1.0),
        (DIAGONAL, 2, {}, {"spacing_unit": "um"}, (0.5, 0.5, 2.0), "header", 1.0),
        (DIAGONAL, 0, {"spacing_unit": "um"}, {}, (0.5, 0.5, 2.0), "header", 1.0),
        (DIAGONAL, 0, {"spacing_unit": "um"}, {"spacing_unit": "mm"}, (0.5, 0.5, 2.0), "header", 1),
        (
            DIAGONAL,
            3,
            {"spacing_unit": "header"},
            {"spacing_unit": "mm"},
            (0.5, 0.5, 2),
            "header",
            1,
        ),
        (DIAGONAL, 0, {"layout_unit": "um"}, {}, (0.5, 0.5, 2.0), "header", 1.0),
        (DIAGONAL, 2, {"layout_unit": "um"}, {}, (0.5, 0.5, 2.0), "header", 1.0),
        (DIAGONAL / 1000, 2, {"layout_unit": "um"}, {}, (0.5, 0.5, 2.0), "header", 1000.0),
        (
            DIAGONAL,
            2,
            {"layout_unit": "um"},
            {"spacing_unit": "mm"},
            (500, 500, 2000),
            "header",
            1e3,
        ),
        (DIAGONAL, 0, {}, {"spacing_um": (0.5, 0.5, 2)}, (0.5, 0.5, 2.0), "config", 1.0),
        (DIAGONAL, 3, {}, {"spacing_um": (7, 7, 7)}, (0.5, 0.5, 2.0), "header", 1.0),
        (DIAGONAL, 0, {"spacing_um": (500, 500, 2000)}, {}, (500, 500, 2000), "csv", 1000.0),
        (DIAGONAL, 3, {"spacing_um": (0.5, 0.5, 2)}, {}, (0.5, 0.5, 2), "csv", 1.0),
        (DIAGONAL, 3, {"spacing_um": (1, 1, 5)}, {}, (1, 1, 5), "csv", 1.0),
        (None, 0, {}, {}, None, None, None),
        (None, 0, {"spacing_um": (1, 1, 5)}, {"spacing_um": (2, 2, 2)}, (1, 1, 5), "csv", 1.0),
        (None, 0, {}, {"spacing_um": (2, 2, 2)}, (2, 2, 2), "config", 1.0),
    ],
)
def test_spacing_rule(tmp_path, affine, code, case_options, data, spacing, source, unit_um):
    row = row_of(case_in(tmp_path, affine, code, **case_options), **data)
    assert row["spacing_source"] == source
    assert row["unit_um"] == unit_um
    if spacing is None:
        assert row["spacing_um"] is None
        with pytest.raises(MinivessError) as caught:
            geometry_of(row)
        assert caught.value.code == "MV-DATA-009"
        assert "case a" in caught.value.where
    else:
        np.testing.assert_allclose(row["spacing_um"], spacing, rtol=1e-6)
        geometry = geometry_of(row)
        assert geometry.shape == SHAPE
        np.testing.assert_allclose(geometry.spacing_um, spacing, rtol=2e-3)


@pytest.mark.parametrize(
    ("affine", "code", "counts"),
    [
        (DIAGONAL, 0, "um"),
        (DIAGONAL, 2, "um"),
        (DIAGONAL, 3, "um"),
        (DIAGONAL / 1000, 2, "header"),
        (None, 0, "um"),
    ],
)
def test_the_unit_that_counts_is_in_the_manifest(tmp_path, affine, code, counts):
    assert row_of(case_in(tmp_path, affine, code, layout_unit="um"))["spacing_unit"] == counts


def test_a_tiff_of_one_bit_is_read_as_numbers(tmp_path):
    image, label = volumes()
    for name, array in (("image", image > np.median(image)), ("label", label > 0)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.ascontiguousarray(array.transpose(2, 1, 0)))
    case = SourceCase("a", tmp_path / "image.tif", tmp_path / "label.tif", "a")
    row = row_of(case)
    assert (row["dtype"], row["label_dtype"]) == ("uint8", "uint8")
    assert (row["intensity_min"], row["intensity_max"], row["two_valued"]) == (0, 1, True)
    assert row["vessel_fraction"] == label.mean()


def test_zero_in_the_header_is_no_spacing(tmp_path):
    case = case_in(tmp_path, DIAGONAL)
    without_z_spacing(case.image)
    assert row_of(case)["spacing_um"] is None
    row = row_of(case, spacing_um=(1, 1, 5))
    assert row["spacing_source"] == "config"
    assert geometry_of(row).spacing_um == (1, 1, 5)


def test_agreeing_header_keeps_its_affine_bit_for_bit(tmp_path):
    affine = np.diag([-0.994, -0.994, 5, 1]).astype(np.float32).astype(np.float64)
    affine[:3, 3] = (100.5, -3.25, 7)
    row = row_of(case_in(tmp_path, affine, 0, spacing_um=(0.994, 0.994, 5.0)))
    assert row["affine"] == affine.ravel().tolist()
    assert row["spacing_um"] == [0.994, 0.994, 5.0]


def test_contradicting_header_keeps_its_directions(tmp_path):
    row = row_of(case_in(tmp_path, DIAGONAL, 3, spacing_um=(1.0, 1.0, 5.0)))
    np.testing.assert_allclose(np.reshape(row["affine"], (4, 4)), np.diag([-1, 1, 5, 1]))
    assert row["header_affine"] == DIAGONAL.ravel().tolist()


def test_unreadable_files_do_not_stop_the_manifest(tmp_path):
    good, bad = case_in(tmp_path, DIAGONAL), case_in(tmp_path / "b", DIAGONAL, name="b")
    bad.image.write_bytes(bad.image.read_bytes()[:200])
    bad.label.unlink()
    table = build_manifest([good, bad], DataConfig())
    row = table.row(1, named=True)
    assert table["read_error_code"].to_list() == ["", "MV-DATA-002"]
    assert row["label_read_error_code"] == "MV-DATA-001"
    assert "Compressed file ended" in row["read_error"]
    assert row["read_error_fix"]
    assert row["shape"] is None
    assert row["label_sha256"] is None
    assert row["image_sha256"] == hashlib.sha256(bad.image.read_bytes()).hexdigest()


def test_nonfinite_voxels_are_counted_and_left_out(tmp_path):
    case = case_in(tmp_path, DIAGONAL)
    image = np.linspace(0, 1, int(np.prod(SHAPE)), dtype=np.float32).reshape(SHAPE)
    image[0, 0, :3] = (np.nan, np.inf, -np.inf)
    write_volume(image, case.image, Geometry(SHAPE, DIAGONAL))
    row = row_of(case)
    assert row["n_nonfinite"] == 3
    assert row["intensity_max"] == 1.0
    assert row["p50"] == pytest.approx(np.median(image[np.isfinite(image)]))
    write_volume(np.full(SHAPE, np.nan, np.float32), case.image, Geometry(SHAPE, DIAGONAL))
    assert row_of(case)["p50"] is None


@pytest.mark.parametrize(
    ("values", "vessel_labels", "fraction"),
    [
        ((0, 1), None, 0.25),
        ((0, 255), None, None),
        ((0, 255), (255,), 0.25),
        ((0, 254), (254, 255), 0.25),
        ((1, 2), (2,), 0.25),
        ((0, 1), (255,), 0.0),
    ],
)
def test_label_mapping(tmp_path, values, vessel_labels, fraction):
    case = case_in(tmp_path, DIAGONAL)
    label = np.full(SHAPE, values[0], np.uint8)
    label[:4] = values[1]
    write_volume(label, case.label, Geometry(SHAPE, DIAGONAL))
    row = row_of(case, vessel_labels=vessel_labels)
    assert row["label_values"] == list(values)
    assert row["vessel_fraction"] == fraction
    if fraction is None:
        with pytest.raises(MinivessError) as caught:
            read_label(row, None)
        assert caught.value.code == "MV-DATA-007"
        assert "case a" in caught.value.where
        assert "vessel_labels: [255]" in caught.value.fix
    else:
        mask = read_label(row, vessel_labels)
        assert mask.dtype == bool
        assert mask.mean() == fraction
    np.testing.assert_array_equal(read_image(row), volumes()[0])


def test_label_values_are_cut_at_sixteen(tmp_path):
    case = case_in(tmp_path, DIAGONAL)
    label = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    write_volume(label, case.label, Geometry(SHAPE, DIAGONAL))
    assert row_of(case)["label_values"] == list(range(16))


def test_float_labels(tmp_path):
    case = case_in(tmp_path, DIAGONAL)
    label = volumes()[1].astype(np.float32)
    write_volume(label, case.label, Geometry(SHAPE, DIAGONAL))
    assert row_of(case)["label_values"] == [0, 1]
    label[0, 0, 0] = 0.5
    write_volume(label, case.label, Geometry(SHAPE, DIAGONAL))
    row = row_of(case)
    assert row["label_read_error_code"] == "MV-DATA-007"
    assert "0.5" in row["label_read_error"]


def test_no_torch():
    program = (
        "import sys, minivess.data.manifest, minivess.data.validate; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@needs_volumes
def test_real_stacks():
    path = str(SHARED / "vesselnn" / "cases.csv")
    data = DataConfig(source="csv", path=path, vessel_labels=(254, 255))
    table = build_manifest(list_cases(Experiment(name="x", data=data), Path("r")), data)
    assert table["read_error_code"].to_list() == [""] * 6
    assert table["label_values"].to_list().count([0, 254]) == 1
    fractions = table["vessel_fraction"]
    assert fractions.min() == pytest.approx(0.037, abs=5e-4)
    assert fractions.max() == pytest.approx(0.4205, abs=5e-4)
    assert table["spacing_source"].unique().to_list() == ["csv"]


@needs_volumes
def test_real_mask_of_full_size():
    file = SHARED / "minivess_mask" / "mv68_y.nii.gz"
    row = row_of(SourceCase("mv68", file, file, "mv68", spacing_unit="um"))
    assert row["n_components"] == 231
    assert row["vessel_fraction"] == pytest.approx(0.0543, abs=1e-4)
    np.testing.assert_allclose(row["spacing_um"], (0.994, 0.994, 2.0), rtol=1e-6)
