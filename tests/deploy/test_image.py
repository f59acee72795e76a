"""The Bento: what the service needs, and nothing that only training needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from small_bundle import make_bundle

from minivess import provenance
from minivess.deploy.bundle import read_bundle
from minivess.deploy.image import PACKAGES, build, pinned

LOCK = provenance.PACKAGE.parent / "uv.lock"
LOADED = """
import importlib.metadata, json, re, sys
import minivess.deploy.service, minivess.metrics.evaluate, minivess.deploy.upload_tiff
import deflate, nibabel, onnxruntime, scipy.ndimage, skimage.measure, tifffile, PIL.Image
owners = importlib.metadata.packages_distributions()
names = {owner for name in sys.modules for owner in owners.get(name.split(".")[0], ())}
print(json.dumps(sorted(re.sub("[-_.]+", "-", name).lower() for name in names)))
"""


@pytest.fixture(scope="module")
def packages() -> dict[str, str]:
    return pinned(tomllib.loads(LOCK.read_text(encoding="utf-8")), PACKAGES)


def test_no_torch_and_nothing_that_brings_it(packages: dict[str, str]) -> None:
    assert not {"torch", "monai", "torchio", "mlflow", "prefect", "gradio", "onnx"} & set(packages)
    assert not [name for name in packages if name.startswith(("nvidia-cu", "cuda", "triton"))]
    assert set(PACKAGES) <= set(packages)
    assert all(packages.values())


def test_all_that_the_service_loads_is_in_it(packages: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    # Loaded where it happens to be installed; nothing of ours asks for it.
    optional = {"minivess", "setuptools", *_optional(loaded - set(packages))}
    assert "bentoml" in loaded
    assert not loaded - set(packages) - optional


def _optional(names: set[str]) -> set[str]:
    """Of these names, those that the packages import only where they are there."""
    return names & {
        *("flask", "werkzeug", "blinker", "itsdangerous", "brotli", "trio", "outcome"),
        *("sortedcontainers", "sniffio", "h2", "hpack", "hyperframe"),
        *("charset-normalizer", "ruamel-yaml"),
    }


def test_a_bento_is_built_offline_and_serves_from_its_own_files(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    tag = build(bundle, tmp_path / "store")
    assert tag == f"minivess:{bundle.digest[:16]}"
    folder = tmp_path / "store" / "bentos" / tag.replace(":", "/")
    made = yaml.safe_load((folder / "bento.yaml").read_text(encoding="utf-8"))
    assert made["labels"]["champion"] == bundle.digest
    source = folder / "src"
    assert read_bundle(source / "bundle").digest == bundle.digest
    assert not list(folder.rglob(".secrets.toml"))
    assert "torch" not in (source / "requirements.txt").read_text(encoding="utf-8")
    code = (
        "import minivess, minivess.deploy.service as service\n"
        "print(minivess.__file__, service.ARGUMENTS.bundle.resolve(), service.RULES.host)"
    )
    environment = {**os.environ, "PYTHONPATH": str(source), "MINIVESS_ENV": "server"}
    environment |= {"MINIVESS_DEPLOY_TOKEN": "secret", "BENTOML_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    module, found, host = done.stdout.split()
    assert Path(module).is_relative_to(source)
    assert Path(found) == (source / "bundle").resolve()
    assert host == "0.0.0.0"
