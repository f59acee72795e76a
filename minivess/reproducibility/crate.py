"""A finished experiment as one ZIP to publish with its paper: a Workflow Run RO-Crate.

Source: RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) and the profile Provenance Run Crate 0.5 of
Leo et al., PLoS ONE 2024, doi:10.1371/journal.pone.0309210 (https://w3id.org/ro/wfrun/provenance).
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from minivess import output, paths
from minivess.reproducibility.chain import Chain, whole_chain
from minivess.reproducibility.check import check_configs, outdated
from minivess.reproducibility.compare import check_files
from minivess.reproducibility.crate_files import (
    CrateFile,
    chain_files,
    project_files,
    project_folder,
    record_files,
)
from minivess.reproducibility.crate_metadata import Contents, metadata
from minivess.reproducibility.digests import read_digests
from minivess.reproducibility.graph import OTHER_TARGETS, Job

# Zip files cannot say less than this; the times of the jobs are in their records.
NO_TIME = (1980, 1, 1, 0, 0, 0)
METADATA = "ro-crate-metadata.json"
# Snakemake's own page: made anew in every run, with this machine's folders in it.
LEFT_OUT = frozenset({"report"})


@dataclass(frozen=True)
class Crate:
    """A crate that was written.

    Attributes:
        path: its file.
        copied: how many files are in it.
        listed: how many are only listed.
        left_out: jobs whose results are not in it, for what they were made from has changed since.
    """

    path: Path
    copied: int
    listed: int
    left_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        mib = self.path.stat().st_size / (1 << 20)
        listed = f", {self.listed} listed with their digests" if self.listed else ""
        text = f"{self.path}: {mib:.1f} MiB, {self.copied} files{listed}"
        if self.left_out:
            names = ", ".join(self.left_out)
            text += f"\nleft out, for what they were made from has changed since: {names}"
            text += "\nwhere they belong to it, make them again, then the crate"
        return text


def write_crate(root: Path, target: Path | None = None, with_volumes: bool = False) -> Crate:
    """Write the crate of a finished experiment.

    The same results give the same bytes, but for the times in the records of their jobs. Paper,
    external sets and exports that a later run of the experiment has outdated are left out.

    Args:
        root: results folder of the experiment.
        target: the ZIP, by default results/<experiment>.crate.zip.
        with_volumes: copy volumes, labels and predictions into it.

    Raises:
        MinivessError: MV-STATE-002 not finished, MV-STATE-003 a record is damaged, MV-STATE-005
            results changed since, MV-DATA-001 no project, MV-SYSTEM-... from writing.
    """
    digests = read_digests(paths.digests(root))
    check_files(root, digests)
    project = project_folder()
    whole = whole_chain(root)
    old = outdated(whole, OTHER_TARGETS)
    chain = without(whole, [*old, *(job for job in whole.jobs if job.rule in LEFT_OUT)])
    check_configs(chain)
    files = chain_files(chain, project, with_volumes)
    beside = [*project_files(project), *record_files(chain)]
    left_out = tuple(whole.label(job) for job in old)
    contents = Contents(chain, project, files, tuple(beside), left_out)
    text = json.dumps(metadata(contents), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    path = target or root.parent / f"{root.name}.crate.zip"
    copied = [file for file in contents.files if file.source]
    write_zip(path, copied, {METADATA: text})
    return Crate(path, len(copied), len(contents.files) - len(copied), left_out)


def without(chain: Chain, left_out: Collection[Job]) -> Chain:
    """A chain without some jobs, which no other depends on."""
    jobs = tuple(job for job in chain.jobs if job not in left_out)
    return Chain(chain.root, chain.recorded, chain.target, jobs, chain.records, chain.volumes)


def write_zip(path: Path, files: Iterable[CrateFile], texts: dict[str, str]) -> None:
    """Write a ZIP whose bytes are decided by names and contents alone.

    Raises:
        MinivessError: MV-SYSTEM-001 not writable, MV-SYSTEM-002 disk full.
    """
    with (
        output.replacing(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, text in texts.items():
            archive.writestr(_entry(name), text)
        for file in sorted(files, key=lambda file: file.name):
            assert file.source is not None
            entry = _entry(file.name)
            entry.file_size = file.source.stat().st_size  # decides the form of its header
            with file.source.open("rb") as source, archive.open(entry, "w") as packed:
                shutil.copyfileobj(source, packed, 1 << 20)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, NO_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix, whatever this is
    entry.external_attr = 0o644 << 16
    return entry
