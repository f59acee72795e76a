from __future__ import annotations

import platform
from pathlib import Path

import pytest

from minivess import paths
from minivess.errors import MinivessError
from minivess.reproducibility.digests import as_text
from minivess.reproducibility.golden import check_golden, machine_kind, record_golden

ZEN = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n"
HASWELL = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 60\n"


def kind(folder: Path, cpuinfo: str, gpu: str | None = None) -> str:
    (folder / "cpuinfo").write_text(cpuinfo, encoding="utf-8")
    if gpu is not None:
        (folder / "gpus" / "0000:01").mkdir(parents=True)
        text = f"Model: \t\t {gpu}\nIRQ: 5\n"
        (folder / "gpus" / "0000:01" / "information").write_text(text, encoding="utf-8")
    return machine_kind(folder / "cpuinfo", folder / "gpus")


def test_kinds_of_machines_differ_by_cpu_and_gpu(tmp_path: Path) -> None:
    zen, haswell = kind(tmp_path, ZEN), kind(tmp_path, HASWELL)
    assert "AuthenticAMD-25-17" in zen
    assert "GenuineIntel-6-60" in haswell
    assert zen.endswith("".join(platform.libc_ver()))
    assert kind(tmp_path, ZEN, "NVIDIA H100 80GB HBM3") == f"{zen}-NVIDIA_H100_80GB_HBM3"


def results(folder: Path, digest: str) -> Path:
    root = folder / "demo"
    root.mkdir(exist_ok=True)
    paths.digests(root).write_text(as_text({"a": "0" * 64, "b": digest * 64}), encoding="utf-8")
    return root


def test_a_known_machine_must_give_its_bytes(tmp_path: Path) -> None:
    golden = tmp_path / "golden"
    record_golden(results(tmp_path, "1"), golden, "zen")
    checked = check_golden(results(tmp_path, "1"), golden, "zen")
    assert checked.known
    assert "the same bytes as the committed ones" in str(checked)
    with pytest.raises(MinivessError, match="MV-STATE-006") as caught:
        check_golden(results(tmp_path, "2"), golden, "zen")
    assert caught.value.where.startswith("b, the first file")


@pytest.mark.parametrize(
    ("digest", "said"), [("1", "the same bytes as"), ("2", "other bytes than")]
)
def test_a_new_machine_is_recorded_and_its_difference_reported(
    digest: str, said: str, tmp_path: Path
) -> None:
    golden = tmp_path / "golden"
    record_golden(results(tmp_path, "1"), golden, "zen")
    checked = check_golden(results(tmp_path, digest), golden, "haswell")
    assert not checked.known
    assert f"{said} zen" in str(checked)
    assert check_golden(results(tmp_path, digest), golden, "haswell").known
