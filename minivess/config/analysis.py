"""The analysis file: what is tested and how, fixed before any result is seen.

It states every key, so that no later default changes what was registered, and its SHA-256 stands in
the tables, the summary and the paper: whoever has the registered file can compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from minivess import provenance
from minivess.config.files import bad_values, read_yaml
from minivess.config.plan import AnalysisPlan
from minivess.errors import MinivessError, nearest

ANALYSES = Path("configs/analysis")
# The keys of the file. What it is called and its digest are not in it.
PLANNED = tuple(key for key in AnalysisPlan.model_fields if key not in ("name", "sha256"))


def read_plan(name: str, folder: Path = ANALYSES) -> AnalysisPlan:
    """The plan of an analysis file.

    Args:
        name: name of a file in `folder`, or in that of the project the package lies in, or path of
            a YAML file.
        folder: where the files are.

    Raises:
        MinivessError: MV-CONFIG-003 no such file, -001 an unknown key, -002 a key is missing or has
            a bad value, -005 not YAML.
    """
    folders = (folder, provenance.PACKAGE.parent / ANALYSES)
    candidates = [folder / f"{name}.yaml" for folder in folders]
    if name.endswith((".yaml", ".yml")):
        candidates = [Path(name)]
    path = next((file for file in candidates if file.is_file()), candidates[0])
    if not path.is_file():
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no analysis file {name}",
            where=str(path),
            fix=nearest(name, sorted({f.stem for place in folders for f in place.glob("*.yaml")})),
        )
    values = read_yaml(path)
    for key in values:
        if key not in PLANNED:
            raise MinivessError(
                "MV-CONFIG-001",
                what=f"unknown key {key} of the analysis file",
                where=str(path),
                found=str(key),
                fix=nearest(str(key), PLANNED),
            )
    missing = [key for key in PLANNED if key not in values]
    if missing:
        raise MinivessError(
            "MV-CONFIG-002",
            what="the analysis file leaves keys open",
            where=str(path),
            found="missing: " + ", ".join(missing),
            expected="every key, so that nothing is decided after results are seen",
            fix="copy the missing lines from configs/analysis/default.yaml",
        )
    made = {"name": path.stem, "sha256": provenance.file_sha256(path)}
    try:
        return AnalysisPlan.model_validate({**values, **made})
    except ValidationError as error:
        raise bad_values(error, str(path)) from error


def resolve_plan(values: Mapping[str, Any], folder: Path, where: str) -> dict[str, Any]:
    """An experiment's values with the name of its analysis file replaced by what the file says.

    In a resolved config, which is made and not written, the plan is there already.

    Raises:
        MinivessError: as `read_plan`; MV-CONFIG-002 keys of a plan outside an analysis file.
    """
    statistics = values["statistics"]
    plan = statistics["plan"]
    if isinstance(plan, Mapping) and set(plan) == set(AnalysisPlan.model_fields):
        return dict(values)
    if not isinstance(plan, str):
        raise MinivessError(
            "MV-CONFIG-002",
            what="the analysis plan is not in a file",
            where=f"{where}, statistics.plan",
            found=repr(plan),
            expected="the name of a file in configs/analysis/, or its path",
            fix="write the keys into such a file: docs/how-to/fix-the-analysis.md",
        )
    resolved = read_plan(plan, folder).model_dump(mode="json")
    return {**values, "statistics": {**statistics, "plan": resolved}}
