"""The verb `points`: a case, a CSV and weights from a file make a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from safetensors.torch import save_file

from minivess import paths
from minivess.config.load import resolve_mapping, write_step_files
from minivess.errors import MinivessError
from minivess.models import build_adapter
from minivess.models.weights import weights_of
from minivess.seeding import torch_seeded
from minivess.steps import data
from minivess.steps.points import segment_points

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One preprocessed case, and weights of the smallest VISTA-3D, which are random."""
    folder = tmp_path_factory.mktemp("points")
    file = folder / "random.safetensors"
    keys: dict[str, Any] = {"architecture": "vista3d", "embed_dim": 24, "weights": str(file)}
    experiment = resolve_mapping(
        {
            "name": "x",
            "models": {"vista": keys, "plain": {"filters": [4, 4, 4]}},
            "phantom": {"n_cases": 1, "phantom_shape": [32, 32, 8]},
        },
        {},
        "test",
    )
    write_step_files(experiment, folder / "config")
    data.phantom(folder)
    data.manifest(folder)
    data.preprocess(folder, "phantom_001")
    with torch_seeded(0, "test"):
        network = build_adapter(experiment.models["vista"], (1.0, 1.0, 5.0)).build()
    save_file(weights_of(network.get_submodule("network")), file)
    return folder


def test_a_mask_in_the_geometry_of_the_case(root: Path, tmp_path: Path) -> None:
    points, target = tmp_path / "points.csv", tmp_path / "mask.nii.gz"
    points.write_text("x,y,z,inside\n10,12,4,1\n20,20,2,0\n", encoding="utf-8")
    segment_points(root, "vista", "phantom_001", points, target)
    image = nib.load(target)
    assert image.shape == (32, 32, 8)
    assert set(np.unique(np.asarray(image.dataobj))) <= {0, 1}
    source = next((paths.phantom_folder(root) / "images").iterdir())
    np.testing.assert_allclose(image.affine, nib.load(source).affine)


@pytest.mark.parametrize(("model", "code"), [("plain", "MV-CONFIG-004"), ("none", "MV-CONFIG-003")])
def test_networks_that_take_no_points(root: Path, tmp_path: Path, model: str, code: str) -> None:
    points = tmp_path / "points.csv"
    points.write_text("x,y,z,inside\n10,12,4,1\n", encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        segment_points(root, model, "phantom_001", points, tmp_path / "mask.nii.gz")
    assert caught.value.code == code
