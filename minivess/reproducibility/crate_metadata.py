"""What a crate says of its files: workflow, jobs, digests, authors, licence, main numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import __version__, output, paths
from minivess.config.files import read_yaml
from minivess.errors import MinivessError
from minivess.reproducibility.chain import Chain
from minivess.reproducibility.crate_files import CITATION, SNAKEFILE, CrateFile
from minivess.reproducibility.graph import Job
from minivess.reproducibility.records import JobRecord, record_file

if TYPE_CHECKING:
    from rocrate.model.entity import Entity  # type: ignore[import-untyped]
    from rocrate.rocrate import ROCrate  # type: ignore[import-untyped]

VERSION = "1.1"
TERMS = "https://w3id.org/ro/terms/workflow-run/context"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
SPDX = "https://spdx.org/licenses/"
SNAKEMAKE = "https://snakemake.github.io"


@dataclass(frozen=True)
class Contents:
    """What a crate is of.

    Attributes:
        chain: of the whole experiment.
        project: the folder of the Snakefile.
        of_jobs: files that jobs read and wrote, by the names that the jobs have for them.
        beside: files of the project and records.
        left_out: jobs whose results are not in it, for they are outdated.
    """

    chain: Chain
    project: Path
    of_jobs: Mapping[str, CrateFile]
    beside: tuple[CrateFile, ...]
    left_out: tuple[str, ...] = ()

    @property
    def files(self) -> list[CrateFile]:
        """Every file once."""
        return list({file.name: file for file in (*self.of_jobs.values(), *self.beside)}.values())


def metadata(contents: Contents) -> dict[str, Any]:
    """The crate's metadata as JSON-LD.

    Raises:
        MinivessError: MV-STATE-002 no job left a record, MV-CONFIG-005 CITATION.cff is damaged.
    """
    from rocrate.rocrate import ROCrate

    records = [record for job in contents.chain.jobs if (record := contents.chain.record(job))]
    if not records:
        raise MinivessError(
            "MV-STATE-002",
            what="no job of this experiment left a record",
            where=str(contents.chain.root / "logs"),
            fix="remove its results folder and run it again",
        )
    crate = ROCrate(version=VERSION)
    crate.metadata.extra_contexts.append(TERMS)
    _describe_files(crate, contents)
    _describe_root(crate, contents, records)
    _describe_runs(crate, contents, records, _describe_workflow(crate, contents, records))
    made: dict[str, Any] = crate.metadata.generate()
    return made


def _add(crate: ROCrate, identifier: str, kind: str, **properties: Any) -> Entity:
    from rocrate.model.contextentity import ContextEntity  # type: ignore[import-untyped]

    known = {key: value for key, value in properties.items() if value is not None}
    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **known}))


def _describe_files(crate: ROCrate, contents: Contents) -> None:
    for file in sorted(contents.files, key=lambda file: file.name):
        facts = {"name": Path(file.name).name, "encodingFormat": file.format}
        if file.digest:
            facts["sha256"] = file.digest
        if file.source is None:
            text = "Not in the crate; this is its digest." if file.digest else "Not in the crate."
            _add(crate, file.identifier, "CreativeWork", **facts, description=text)
            continue
        facts["contentSize"] = str(file.source.stat().st_size)
        if file.name == SNAKEFILE:
            known = {
                **facts,
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                "name": "MiniVess: from raw volumes to tables and figures",
                "version": __version__,
            }
            crate.add_workflow(
                file.source, file.name, main=True, lang="snakemake", properties=known
            )
        else:
            crate.add_file(file.source, file.name, properties=facts)


def _describe_root(crate: ROCrate, contents: Contents, records: list[JobRecord]) -> None:
    cited = read_yaml(contents.project / CITATION)
    licence = str(cited.get("license", ""))
    name = contents.chain.root.name
    crate.name = f"{cited.get('title', 'MiniVess')}: experiment {name}"
    crate.description = (
        f"The experiment {name}: workflow, resolved configuration, folds, weights, metrics, tables "
        "and figures, with the digest and origin of every file. "
        f"{_said_left_out(contents.left_out)}{cited.get('abstract', '')}"
    ).strip()
    crate.datePublished = max(record.ended for record in records)[:10]
    crate.root_dataset["author"] = [_author(crate, author) for author in cited.get("authors", [])]
    if licence:
        crate.license = _add(crate, SPDX + licence, "CreativeWork", name=licence)
    crate.root_dataset["conformsTo"] = [
        _add(crate, identifier, "CreativeWork", name=title, version=version)
        for identifier, (title, version) in PROFILES.items()
    ]
    numbers = list(_numbers(crate, paths.summary(contents.chain.root)))
    crate.root_dataset["variableMeasured"] = numbers


def _said_left_out(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    return f"Left out, for what they were made from has changed since: {', '.join(names)}. "


def _author(crate: ROCrate, author: Mapping[str, Any]) -> Entity:
    if "name" in author:
        identifier = str(author.get("website") or f"#{author['name']}".replace(" ", "-"))
        return _add(crate, identifier, "Organization", name=str(author["name"]))
    given, family = str(author.get("given-names", "")), str(author.get("family-names", ""))
    whole = f"{given} {family}".strip()
    identifier = str(author.get("orcid") or f"#{whole}".replace(" ", "-"))
    properties = {"name": whole, "givenName": given or None, "familyName": family or None}
    return _add(crate, identifier, "Person", **properties, affiliation=author.get("affiliation"))


def _numbers(crate: ROCrate, path: Path) -> Iterable[Entity]:
    """The means of the final summary with their intervals."""
    for arm in output.read_json(path, "arms")["arms"]:
        for metric, value in sorted(arm["metrics"].items()):
            yield _add(
                crate,
                f"#mean-{arm['model']}-{arm['loss']}-{metric}",
                "PropertyValue",
                name=f"mean {metric} of {arm['model']} with {arm['loss']}, "
                f"{value['n_cases']} cases; interval from minValue to maxValue",
                value=value["mean"],
                minValue=value["ci_low"],
                maxValue=value["ci_high"],
                unitText=value["unit"],
            )


def _describe_workflow(
    crate: ROCrate, contents: Contents, records: list[JobRecord]
) -> dict[str, tuple[Entity, Entity]]:
    """Describe workflow, rules and software; for each rule its tool and its step."""
    workflow = crate.mainEntity
    versions = {
        name.removeprefix("sys_"): version
        for record in records
        for name, version in record.versions.items()
        if name not in ("sys_platform", "sys_machine")
    }
    crate.get("https://w3id.org/workflowhub/workflow-ro-crate#snakemake")["version"] = versions[
        "snakemake"
    ]
    workflow["softwareRequirements"] = [
        _software(crate, name, version) for name, version in sorted(versions.items())
    ]
    rules: dict[str, tuple[Entity, Entity]] = {}
    for rule in dict.fromkeys(job.rule for job in contents.chain.jobs):
        tool = _add(
            crate,
            f"#tool-{rule}",
            "SoftwareApplication",
            name=f"minivess, step {rule}",
            softwareVersion=__version__,
        )
        step = _add(
            crate,
            f"#step-{rule}",
            "HowToStep",
            name=f"rule {rule}",
            position=str(len(rules)),
            workExample=tool,
        )
        rules[rule] = tool, step
    workflow["hasPart"] = [tool for tool, _ in rules.values()]
    workflow["step"] = [step for _, step in rules.values()]
    return rules


def _software(crate: ROCrate, name: str, version: str) -> Entity:
    url = "https://www.python.org" if name == "python" else f"https://pypi.org/project/{name}/"
    return _add(crate, url, "SoftwareApplication", name=name, url=url, softwareVersion=version)


def _seconds(time: str) -> str:
    """ISO 8601 without fractions, as the profile wants it."""
    return datetime.fromisoformat(time).isoformat(timespec="seconds")


def _describe_runs(
    crate: ROCrate,
    contents: Contents,
    records: list[JobRecord],
    rules: Mapping[str, tuple[Entity, Entity]],
) -> None:
    """Describe what each job did, and the whole run."""
    chain = contents.chain
    controls, runs = [], []
    for job in chain.jobs:
        tool, step = rules[job.rule]
        action = _job_run(crate, contents, job, tool)
        controls.append(
            _add(
                crate,
                action.id.replace("#job-", "#control-"),
                "ControlAction",
                name=f"orchestrate {action.id.removeprefix('#job-')}",
                instrument=step,
                object=action,
            )
        )
        runs.append(action)
    config = paths.step_config(chain.recorded, "experiment").as_posix()
    whole = _add(
        crate,
        "#run",
        "CreateAction",
        name=f"run of the experiment {chain.root.name}",
        description=f"snakemake --cores all --config experiment={config}",
        instrument=crate.mainEntity,
        startTime=_seconds(min(record.started for record in records)),
        endTime=_seconds(max(record.ended for record in records)),
        object=_files(crate, contents, chain.inputs),
        result=_files(crate, contents, sorted(chain.producers)),
    )
    engine = _add(
        crate,
        SNAKEMAKE,
        "SoftwareApplication",
        name="Snakemake",
        url=SNAKEMAKE,
        softwareVersion=records[-1].versions["sys_snakemake"],
    )
    organised = _add(
        crate,
        "#organise",
        "OrganizeAction",
        name="Snakemake",
        instrument=engine,
        object=controls,
        result=whole,
    )
    crate.root_dataset["mentions"] = [whole, organised, *runs]


def _job_run(crate: ROCrate, contents: Contents, job: Job, tool: Entity) -> Entity:
    chain = contents.chain
    record = chain.record(job)
    name = chain.label(job)
    return _add(
        crate,
        f"#job-{name}",
        "CreateAction",
        name=name,
        description=job.command,
        instrument=tool,
        object=_files(crate, contents, job.inputs),
        result=_files(crate, contents, job.outputs),
        startTime=_seconds(record.started) if record else None,
        endTime=_seconds(record.ended) if record else None,
        subjectOf=crate.get(record_file(Path(job.log)).as_posix()) if record else None,
    )


def _files(crate: ROCrate, contents: Contents, names: Iterable[str]) -> list[Entity]:
    return [crate.get(contents.of_jobs[name].identifier) for name in names]
