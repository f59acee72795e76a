"""The analysis file: complete, checked, and known by its digest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from minivess.config.analysis import PLANNED, read_plan
from minivess.config.load import resolve, resolve_mapping
from minivess.config.plan import AnalysisPlan
from minivess.errors import MinivessError
from minivess.workflow import check_uses

PROJECT = Path(__file__).parents[2]
DEFAULT = PROJECT / "configs" / "analysis" / "default.yaml"


def written(folder: Path, **changes: Any) -> str:
    values = yaml.safe_load(DEFAULT.read_text(encoding="utf-8")) | changes
    file = folder / "mine.yaml"
    kept = {key: value for key, value in values.items() if value != "left out"}
    file.write_text(yaml.safe_dump(kept), encoding="utf-8")
    return str(file)


def refused(folder: Path, **changes: Any) -> MinivessError:
    with pytest.raises(MinivessError) as caught:
        read_plan(written(folder, **changes))
    return caught.value


def test_the_default_file_has_the_schemas_defaults() -> None:
    plan = read_plan("default", DEFAULT.parent)
    made = {"sha256": hashlib.sha256(DEFAULT.read_bytes()).hexdigest()}
    assert plan == AnalysisPlan().model_copy(update=made)


def test_the_digest_is_of_the_files_bytes(tmp_path: Path) -> None:
    file = Path(written(tmp_path))
    before = read_plan(str(file))
    file.write_text(file.read_text(encoding="utf-8") + "# a word more\n", encoding="utf-8")
    after = read_plan(str(file))
    assert before.sha256 != after.sha256
    assert before.model_dump(exclude={"sha256"}) == after.model_dump(exclude={"sha256"})


@pytest.mark.parametrize("key", PLANNED)
def test_every_key_must_be_there(tmp_path: Path, key: str) -> None:
    error = refused(tmp_path, **{key: "left out"})
    assert error.code == "MV-CONFIG-002"
    assert error.found == f"missing: {key}"


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    error = refused(tmp_path, primary_metrik="dice")
    assert error.code == "MV-CONFIG-001"
    assert "primary_metric?" in error.fix


@pytest.mark.parametrize("key", ["name", "sha256"])
def test_nobody_writes_the_digest_himself(tmp_path: Path, key: str) -> None:
    assert refused(tmp_path, **{key: "0" * 64}).code == "MV-CONFIG-001"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"alpha": 1}, "alpha"),
        ({"correction": "bonferroni"}, "correction"),
        ({"rope": {"dice": 0}}, "rope.dice"),
        ({"rope": {"nds": 0.1}}, "rope has metrics that are not compared: nds"),
        ({"secondary_metrics": ["dice"]}, "the same value twice"),
        ({"alternative": "better"}, "against"),
    ],
)
def test_bad_values_are_named(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    error = refused(tmp_path, **changes)
    assert error.code == "MV-CONFIG-002"
    assert found in error.found


def test_an_unknown_file_names_the_nearest() -> None:
    with pytest.raises(MinivessError) as caught:
        resolve("demo", {"statistics.plan": "defualt"}, PROJECT / "configs" / "experiment")
    assert caught.value.code == "MV-CONFIG-003"
    assert "default?" in caught.value.fix


@pytest.mark.parametrize("key", ["primary_metric", "statistics.alpha"])
def test_a_planned_key_elsewhere_is_an_error_that_says_where_it_belongs(key: str) -> None:
    with pytest.raises(MinivessError) as caught:
        resolve_mapping({"name": "x"}, {key: "nsd"}, "here")
    assert caught.value.code == "MV-CONFIG-001"
    assert "analysis file" in caught.value.fix


@pytest.mark.parametrize("plan", [{"alpha": 0.1}, 3, None])
def test_a_plan_is_a_file(plan: Any) -> None:
    with pytest.raises(MinivessError) as caught:
        resolve_mapping({"name": "x", "statistics": {"plan": plan}}, {}, "here")
    assert caught.value.code == "MV-CONFIG-002"
    assert "statistics.plan" in caught.value.where


@pytest.mark.parametrize(
    ("changes", "code", "fix"),
    [
        ({"primary_metric": "clDise", "rope": {}}, "MV-CONFIG-003", "cldice"),
        ({"against": "dynunet/dice_cee"}, "MV-CONFIG-003", "dynunet/dice_ce?"),
        (
            {
                "secondary_metrics": ["volume_fraction"],
                "rope": {},
                "against": "dynunet/dice_ce",
                "alternative": "better",
            },
            "MV-CONFIG-004",
            "two_sided",
        ),
    ],
)
def test_names_that_do_not_exist_stop_before_anything_runs(
    tmp_path: Path, changes: dict[str, Any], code: str, fix: str
) -> None:
    values = {"name": "x", "losses": ["cbdice", "dice_ce"]}
    values["statistics"] = {"plan": written(tmp_path, **changes)}
    with pytest.raises(MinivessError) as caught:
        check_uses(resolve_mapping(values, {}, "here"))
    assert caught.value.code == code
    assert fix in caught.value.fix
