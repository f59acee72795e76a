"""The step that chooses champions, and what it says about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minivess import output, paths, provenance
from minivess.config.load import load_step
from minivess.errors import MinivessError
from minivess.logs import say
from minivess.types import RunKey


def champion(root: Path) -> None:
    """Write champions.json and the table champions; tag the winners in MLflow."""
    from minivess.data.manifest import read_groups
    from minivess.statistics import champion as rules
    from minivess.statistics import tables
    from minivess.tracking.address import tracking_uri
    from minivess.tracking.registry import register_champions

    experiment = load_step(paths.step_config(root, "experiment"))
    statistics = load_step(paths.step_config(root, "compare")).statistics
    cases = tables.read("cases", paths.table(root, "cases"))
    runs = tables.read("runs", paths.table(root, "runs"))
    groups = read_groups(paths.manifest(root))
    found, chosen = rules.choose_all(cases, statistics, experiment.arms(), groups)
    entries: dict[str, dict[str, Any]] = {}
    winners: dict[str, tuple[RunKey, str]] = {}
    for kind, one in chosen.items():
        run = RunKey(*one.arm, *rules.representative(runs, one.arm))
        digest = provenance.file_sha256(paths.weights(paths.run_folder(root, run)))
        winners[kind] = (run, digest)
        entries[kind] = rules.as_record(one, run, digest)
    record = {
        "experiment": experiment.name,
        "champions": entries,
        "not_candidates": {"/".join(arm): why for arm, why in found.refused.items()}
        | {
            "/".join(arm): "an ensemble, not a run of its own" for arm in experiment.ensemble_arms()
        },
    }
    if experiment.folds.selection_fraction == 0:
        record["networks"] = "lowest seed and fold: no case was kept to choose by"
    register_champions(tracking_uri(), experiment.name, winners)
    table = rules.champions_table(list(entries.values()))
    output.write_parquet(table, paths.table(root, "champions"))
    output.write_json(record, paths.champions(root))
    for line in explained(root).splitlines():
        say(line)


def read_champions(root: Path) -> dict[str, Any]:
    """champions.json of a finished experiment.

    Raises:
        MinivessError: MV-STATE-002 there is none, MV-STATE-003 it is damaged.
    """
    path = paths.champions(root)
    if not path.exists():
        raise MinivessError(
            "MV-STATE-002",
            what="the experiment has no champion yet",
            where=str(path),
            fix=f"run it to its end: just experiment {root.name}",
        )
    record: dict[str, Any] = output.read_json(path, "champions")
    return record


def explained(root: Path) -> str:
    """Every champion, why it won and by how much."""
    from minivess.statistics.champion import explain
    from minivess.statistics.summary import arm_names

    record = read_champions(root)
    arms = [
        (entry["model"], entry["loss"])
        for one in record["champions"].values()
        for entry in one["standings"]
    ]
    names = arm_names(sorted(set(arms)))
    chosen = record.get("networks", "best on its selection cases")
    parts = []
    for one in record["champions"].values():
        parts.append(explain(one, lambda arm: names[arm]))
        parts.append(f"  its network: {one['run']} ({chosen})")
    parts += [f"no candidate: {arm}: {why}" for arm, why in record["not_candidates"].items()]
    return "\n".join(parts)
