"""The champion on another data set: tables, distances, warnings, and nothing of the own changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from minivess import paths
from minivess.config.load import load_step
from minivess.config.schema import PhantomConfig
from minivess.data.phantom import make_phantom, write_phantom
from minivess.data.volume import read_volume
from minivess.errors import MinivessError
from minivess.metrics import METRICS
from minivess.statistics import tables
from minivess.steps import external

from .conftest import LOCKED, configured
from .test_locked_set import digests

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_volumes = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"real volumes are not there: no folder {SHARED}"
)
OTHER = PhantomConfig(
    n_cases=3, phantom_shape=(20, 16, 6), phantom_spacing_um=(2.0, 2.0, 4.0), phantom_seed=7
)


def given(name: str = "other", **data: Any) -> None:
    """The config with an external set of three phantoms of another spacing."""
    write_phantom(OTHER, Path("other"))
    configured(Path(), external={name: {"source": "csv", "path": "other/cases.csv", **data}})


def test_tables_and_result(root: Path) -> None:
    before = digests(root)
    given(origin="another laboratory")
    external.evaluate_external(root, "other")
    after = digests(root)
    changed = {name for name in after if after[name] != before.get(name)}
    assert all(name.startswith(("external/other/", "config/")) for name in changed)
    folder = paths.external_folder(root, "other")
    table = tables.read("external", paths.table(folder, "external"))
    assert table.height == 2 * 3 * len(METRICS)
    assert set(table["set"]) == {"other"}
    assert set(table["n_networks"]) == {2}
    result = json.loads(paths.set_result(folder).read_text(encoding="utf-8"))
    for kind in ("mean", "vote"):
        dice = table.filter(metric="dice", ensemble=kind)["value"]
        assert result["metrics"][kind]["dice"]["mean"] == pytest.approx(dice.mean())
        assert result["metrics"][kind]["dice"]["n_cases"] == 3
    assert result["warnings"] == []
    mask = read_volume(paths.prediction(folder, "phantom_001"))
    assert mask.affine is not None
    np.testing.assert_allclose(np.diag(mask.affine), [2, 2, 4, 1])


def test_the_shift_is_of_the_free_cases_and_of_the_stored_volumes(root: Path) -> None:
    given()
    external.evaluate_external(root, "other")
    folder = paths.external_folder(root, "other")
    properties = tables.read("properties", paths.table(folder, "properties"))
    own = properties.filter(pl.col("set") == "own")
    assert LOCKED not in set(own["case"])
    assert own["case"].n_unique() == 4
    expected = make_phantom(OTHER, 1)
    row = properties.filter(
        (pl.col("set") == "other")
        & (pl.col("case") == "phantom_002")
        & pl.col("property").is_in(["intensity_mean", "vessel_fraction"])
    )
    assert row["value"].to_list() == pytest.approx([expected.image.mean(), expected.label.mean()])
    shift = tables.read("shift", paths.table(folder, "shift"))
    spacing = shift.filter(pl.col("property") == "spacing_x").row(0, named=True)
    assert (spacing["median_own"], spacing["median_set"]) == (1, 2)
    assert (spacing["wasserstein"], spacing["ks_statistic"]) == (1, 1)
    assert (spacing["n_own"], spacing["n_set"]) == (4, 3)


def test_the_same_bytes_twice(root: Path) -> None:
    given()
    external.evaluate_external(root, "other")
    first = digests(root)
    shutil.rmtree(paths.external_folder(root, "other"))
    external.evaluate_external(root, "other")
    assert digests(root) == first


def test_a_shared_origin_is_a_warning_that_is_kept(root: Path) -> None:
    given(origin="phantom")
    external.evaluate_external(root, "other")
    folder = paths.external_folder(root, "other")
    result = json.loads(paths.set_result(folder).read_text(encoding="utf-8"))
    assert "MV-DATA-019" in result["warnings"][0]
    assert "both have cases of phantom" in result["warnings"][0]
    assert "MV-DATA-019" in paths.validation_page(folder).read_text(encoding="utf-8")


def test_an_own_volume_under_another_name_is_refused(root: Path) -> None:
    given()
    own = paths.phantom_folder(root) / "images" / f"{LOCKED}.nii.gz"
    shutil.copy(own, Path("other/images/phantom_002.nii.gz"))
    with pytest.raises(MinivessError) as caught:
        external.evaluate_external(root, "other")
    assert caught.value.code == "MV-DATA-017"
    assert "MV-DATA-018" in caught.value.found
    assert not paths.set_result(paths.external_folder(root, "other")).exists()


def test_a_set_that_the_config_lacks_has_no_step_file(root: Path) -> None:
    given()
    with pytest.raises(MinivessError, match="MV-STATE-002"):
        external.evaluate_external(root, "othr")


@needs_volumes
def test_a_real_volume_of_another_modality(root: Path) -> None:
    """OCT angiography, cropped, with the spacing that its TIFF lacks."""
    import tifffile

    folder = Path("octa")
    folder.mkdir()
    for kind, file in (("image", "OCTA-Data.tif"), ("label", "OCTA-Labels.tif")):
        volume = tifffile.imread(SHARED / "octa" / file)
        tifffile.imwrite(folder / f"{kind}.tif", volume[20:36, 32:80, 32:80])
    (folder / "cases.csv").write_text("case,image,label\nocta,image.tif,label.tif\n")
    values = np.unique(tifffile.imread(folder / "label.tif"))
    configured(
        Path(),
        external={
            "octa": {
                "source": "csv",
                "path": "octa/cases.csv",
                "spacing_um": [10.0, 10.0, 5.0],
                "vessel_labels": [int(value) for value in values if value],
                "origin": "tUbeNet",
            }
        },
    )
    external.evaluate_external(root, "octa")
    experiment = load_step(paths.step_config(root, "external-octa"))
    assert experiment.external["octa"].spacing_um == (10.0, 10.0, 5.0)
    table = tables.read("external", paths.table(paths.external_folder(root, "octa"), "external"))
    assert table["value"].is_finite().all()
