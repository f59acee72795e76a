"""The real service on loopback: the same bytes, clear refusals, many clients, a graceful stop."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from running_service import Running, running_service
from small_bundle import make_bundle, vessel_image

from minivess.data.geometry import Geometry
from minivess.data.volume import Volume, nifti_bytes, read_volume
from minivess.deploy.bundle import read_bundle
from minivess.deploy.segment import open_session, segment
from minivess.metrics import METRICS

SHAPE = (40, 33, 11)
GEOMETRY = Geometry(SHAPE, np.diag([-1.0, 1.0, 5.0, 1.0]))
VOLUME = nifti_bytes(vessel_image(SHAPE), GEOMETRY, packed=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle")).folder


@pytest.fixture(scope="module")
def service(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {"max_upload_mb": 1, "max_voxels": 50_000, "max_queue": 4, "threads": 1}
    with running_service(bundle, tmp_path_factory.mktemp("service"), **limits) as running:
        yield running


def ask(service: Running, name: str = "v.nii.gz", data: bytes = VOLUME, **fields: str):
    files = {"volume": (name, data)}
    return httpx.post(f"{service.url}/segment", files=files, data=fields, timeout=60)


@pytest.fixture(scope="module")
def expected(bundle: Path) -> bytes:
    """The mask as a file, without the service."""
    opened = read_bundle(bundle)
    volume = Volume(vessel_image(SHAPE), GEOMETRY)
    found = segment(open_session(opened), opened, volume)
    return nifti_bytes(found.mask, GEOMETRY, packed=True)


def test_the_mask_has_the_bytes_and_the_geometry_of_the_library(
    service: Running, expected: bytes, tmp_path: Path
) -> None:
    found = ask(service)
    assert found.status_code == 200
    assert found.content == expected
    sha256 = hashlib.sha256(expected).hexdigest()
    assert found.headers["etag"] == f'"{sha256}"'
    assert found.headers["content-disposition"] == 'attachment; filename="v_mask.nii.gz"'
    (tmp_path / "m.nii.gz").write_bytes(found.content)
    mask = read_volume(tmp_path / "m.nii.gz")
    assert mask.affine.tobytes() == GEOMETRY.affine.tobytes()
    assert set(np.unique(mask.array)) == {0, 1}


def test_probability_report_and_all_of_them(
    service: Running, expected: bytes, tmp_path: Path
) -> None:
    packed = ask(service, answer="all")
    assert packed.content == ask(service, answer="all").content
    with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
        names = ["v_mask.nii.gz", "v_probability.nii.gz", "v_report.json"]
        assert archive.namelist() == names
        mask, probability, text = (archive.read(name) for name in names)
    assert mask == expected
    assert probability == ask(service, answer="probability").content
    report = json.loads(text)
    assert report == ask(service, answer="report").json()
    assert report["volume"] == {"shape": list(SHAPE), "spacing_um": [1.0, 1.0, 5.0]}
    (tmp_path / "m.nii.gz").write_bytes(mask)
    fraction = read_volume(tmp_path / "m.nii.gz").array.mean()
    assert report["vessels"]["volume_fraction"]["value"] == pytest.approx(fraction)
    assert report["vessels"]["length_um"]["unit"] == "um"


def test_compared_with_a_reference(service: Running, expected: bytes) -> None:
    def compare(reference: bytes) -> httpx.Response:
        files = {"volume": ("v.nii.gz", VOLUME), "reference": ("r.nii.gz", reference)}
        form = {"answer": "report"}
        return httpx.post(f"{service.url}/segment", files=files, data=form, timeout=60)

    metrics = compare(expected).json()["metrics"]
    assert list(metrics["values"]) == list(METRICS)
    assert metrics["values"]["dice"] == {"value": 1.0, "unit": "1"}
    empty = np.zeros(SHAPE, np.uint8)
    found = compare(nifti_bytes(empty, GEOMETRY, packed=True)).json()["metrics"]
    assert found["status"] == "empty_reference"
    moved = Geometry(SHAPE, GEOMETRY.affine + np.diag([0.1, 0, 0, 0]))
    values = empty.copy()
    values[0, 0, 0] = 7
    smaller = Geometry((40, 33, 10), GEOMETRY.affine)
    for array, geometry in ((empty, moved), (values, GEOMETRY), (empty[..., :10], smaller)):
        refused = compare(nifti_bytes(array, geometry, packed=True))
        assert (refused.status_code, refused.json()["code"]) == (422, "MV-UPLOAD-010")


def with_field(offset: int, value: bytes) -> bytes:
    """The volume with bytes of its header replaced."""
    data = bytearray(gzip.decompress(VOLUME))
    data[offset : offset + len(value)] = value
    return gzip.compress(bytes(data))


NAN = np.full(SHAPE, np.nan, np.float32)
BAD = {
    "truncated": ("v.nii.gz", VOLUME[:5000], 422, "MV-UPLOAD-004"),
    "not gzip": ("v.nii.gz", b"hello" * 100, 415, "MV-UPLOAD-003"),
    "bomb": ("v.nii.gz", gzip.compress(gzip.decompress(VOLUME) + bytes(9 << 20)), 422, "-005"),
    "lying": ("v.nii.gz", with_field(42, b"\xff\x7f" * 3), 413, "MV-UPLOAD-002"),
    "negative": ("v.nii.gz", with_field(42, b"\xff\xff"), 422, "MV-UPLOAD-005"),
    "NaN": ("v.nii.gz", nifti_bytes(NAN, GEOMETRY, packed=True), 422, "MV-UPLOAD-007"),
    "path": ("../../v.nii.gz", VOLUME, 400, "MV-UPLOAD-009"),
    "format": ("v.png", VOLUME, 415, "MV-UPLOAD-003"),
    "no TIFF": ("v.tif", VOLUME, 415, "MV-UPLOAD-003"),
    "large": ("v.nii", bytes(3 << 20), 413, "MV-UPLOAD-001"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_refused_with_a_code(service: Running, kind: str) -> None:
    name, data, status, code = BAD[kind]
    found = ask(service, name, data)
    assert found.status_code == status
    assert found.headers["content-type"] == "application/problem+json"
    assert found.json()["code"].endswith(code)
    assert found.json()["fix"]
    assert "/tmp" not in found.text


def test_eight_clients_good_and_bad(service: Running, expected: bytes) -> None:
    """Every answer is the right mask, the right refusal, or a word on when to come back."""

    def visit(index: int) -> str:
        if index % 3:
            found = ask(service)
            if found.status_code == 200:
                return "mask" if found.content == expected else "WRONG"
        else:
            name, data, status, _ = list(BAD.values())[index // 3 % len(BAD)]
            found = ask(service, name, data)
            if found.status_code == status:
                return "refused"
        busy = found.status_code == 429 and int(found.headers["retry-after"]) >= 1
        return "busy" if busy else f"status {found.status_code}"

    with ThreadPoolExecutor(8) as clients:
        outcomes = list(clients.map(visit, range(24)))
    assert set(outcomes) <= {"mask", "refused", "busy"}
    assert "mask" in outcomes
    assert ask(service).content == expected
    assert httpx.get(f"{service.url}/livez").status_code == 200


def test_pages_metrics_and_health(service: Running) -> None:
    ask(service)
    metrics = httpx.get(f"{service.url}/metrics").text
    assert re.search(r'minivess_requests_total\{status="200"\} [1-9]', metrics)
    assert 'code="MV-UPLOAD-003"' in metrics
    for path in ("/readyz", "/livez"):
        assert httpx.get(service.url + path).status_code == 200
    document = httpx.get(f"{service.url}/docs.json").json()
    post = document["paths"]["/segment"]["post"]
    assert "curl -F volume=@" in post["description"]
    assert {"200", "413", "422", "429", "504"} <= set(post["responses"])
    schema = json.dumps(document["components"])
    for field in ("volume", "reference", "spacing_um", "spacing_unit", "answer"):
        assert f'"{field}"' in schema
    page = httpx.get(service.url + "/")
    assert "://" not in page.text, "nothing is loaded from other sites"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for asset in re.findall(r'(?:src|href)="\./([^"]+)"', page.text):
        assert httpx.get(f"{service.url}/{asset}").status_code == 200


def test_sigterm_finishes_what_runs(bundle: Path, tmp_path: Path) -> None:
    shape = (192, 192, 48)
    large = nifti_bytes(vessel_image(shape), Geometry(shape, GEOMETRY.affine), packed=False)
    with (
        running_service(bundle, tmp_path, threads=1) as service,
        ThreadPoolExecutor(1) as client,
    ):
        running = client.submit(ask, service, "v.nii", large, answer="probability")
        while "minivess_running 1.0" not in httpx.get(f"{service.url}/metrics").text:
            assert not running.done(), "the volume is too small for this test"
            time.sleep(0.02)
        service.process.send_signal(signal.SIGTERM)
        found = running.result()
        assert found.status_code == 200
        assert len(found.content) == int(found.headers["content-length"])
        assert service.process.wait(timeout=20) == 0


def test_the_service_loads_neither_torch_nor_what_only_training_needs() -> None:
    code = (
        "import json, sys\n"
        "import minivess.deploy.service\n"
        "import minivess.metrics.evaluate, minivess.deploy.upload_tiff, onnxruntime, scipy\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"bentoml", "onnxruntime", "nibabel"} & loaded
    assert not {"torch", "monai", "mlflow", "prefect", "gradio", "hydra"} & loaded
