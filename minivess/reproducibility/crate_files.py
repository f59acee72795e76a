"""Which files go into the crate of an experiment, and what is said of each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from minivess import paths, provenance
from minivess.data.volume import volume_suffix
from minivess.errors import MinivessError
from minivess.reproducibility.chain import Chain
from minivess.reproducibility.records import record_file

# What the workflow is: enough to run the experiment again, beside the package of the same commit.
PROJECT = (
    "Snakefile",
    "workflow/**/*.smk",
    "workflow/**/*.rst",
    "profiles/default/config.yaml",
    "configs/config.yaml",
    "pyproject.toml",
    "uv.lock",
    "CITATION.cff",
    "LICENSE",
)
SNAKEFILE = "Snakefile"
CITATION = "CITATION.cff"
# What is copied of the files of the project that steps read: no volume, ZIP or weights.
TEXTS = frozenset(
    {".bib", ".csv", ".json", ".lock", ".py", ".qmd", ".toml", ".tsv", ".yaml", ".yml"}
)
# Below these each folder is laid out as the results of an experiment.
SETS = ("external", "test")

FORMATS = {
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".html": "text/html",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".yaml": "application/yaml",
    ".toml": "application/toml",
    ".gz": "application/gzip",
    ".zip": "application/zip",
    ".bib": "text/x-bibtex",
    ".qmd": "text/markdown",
    ".rst": "text/x-rst",
    ".smk": "text/x-python",
}


@dataclass(frozen=True)
class CrateFile:
    """A file of a crate.

    Attributes:
        name: in the crate, mostly as it was in the working folder.
        source: where it lies here; none where it is only listed.
        digest: its SHA-256; none where it is not known.
    """

    name: str
    source: Path | None
    digest: str | None

    @property
    def identifier(self) -> str:
        """Its name in the metadata; what is only listed has one that is no file of the crate."""
        return ("" if self.source else "#") + quote(self.name)

    @property
    def format(self) -> str:
        """Its media type."""
        suffix = Path(self.name).suffix
        return FORMATS.get(suffix, "application/octet-stream" if suffix else "text/plain")


def project_folder() -> Path:
    """The folder of Snakefile and CITATION.cff: this one, else that of the package's project.

    Raises:
        MinivessError: MV-DATA-001 neither has both.
    """
    candidates = [Path.cwd(), provenance.PACKAGE.parent]
    for folder in candidates:
        if all((folder / name).is_file() for name in (SNAKEFILE, CITATION)):
            return folder
    raise MinivessError(
        "MV-DATA-001",
        what="the project that the crate describes is missing",
        where=str(candidates[0]),
        expected=f"{SNAKEFILE}, and {CITATION} with authors and licence",
        fix="go to the project's folder first",
    )


def project_files(project: Path) -> list[CrateFile]:
    """The workflow's own files."""
    found = {path for pattern in PROJECT for path in project.glob(pattern) if path.is_file()}
    return [_copied(path.relative_to(project).as_posix(), path) for path in sorted(found)]


def record_files(chain: Chain) -> list[CrateFile]:
    """The records of the jobs, the graph and the experiment's own config."""
    logs = [chain.place(job.log) for job in chain.jobs if chain.record(job)]
    found = [record_file(log) for log in logs]
    found += [paths.job_graph(chain.root), paths.step_config(chain.root, "experiment")]
    return [
        _copied((chain.recorded / path.relative_to(chain.root)).as_posix(), path)
        for path in sorted(found)
    ]


def chain_files(chain: Chain, project: Path, with_volumes: bool) -> dict[str, CrateFile]:
    """The files that the jobs read and wrote, by the names that the jobs have for them.

    Preprocessed arrays are only listed. Volumes, labels, predictions and what the user gave are
    copied where they are asked for and there; texts that lie in the project always are.

    Args:
        chain: of the whole experiment.
        project: the folder of the Snakefile.
        with_volumes: copy those too.
    """
    names = sorted({name for job in chain.jobs for name in (*job.inputs, *job.outputs)})
    files = {}
    for name in names:
        path = Path(os.path.abspath(chain.place(name)))  # noqa: PTH100 - links keep their names
        own = path.is_relative_to(project) and name not in chain.producers
        shown = path.relative_to(project).as_posix() if own else name
        wanted = _kind(chain, name, own) in ("small", *["large"] * with_volumes)
        if wanted and path.is_file():
            files[name] = _copied(_inside(shown), path)
        else:
            files[name] = CrateFile(shown, None, chain.digest(name))
    return files


def _kind(chain: Chain, name: str, own: bool) -> str:
    """Whether a file is small, large, or an array that is quickly made again."""
    path = Path(name)
    if not path.is_relative_to(chain.recorded):
        return "small" if own and path.suffix.lower() in TEXTS else "large"
    below = path.relative_to(chain.recorded).parts
    if below[0] in SETS:
        below = below[2:]
    if below[:2] == ("data", "preprocessed"):
        return "array"
    if below[:2] in (("data", "phantom"), ("data", "unpacked")) or "predictions" in below:
        return "large"
    return "large" if volume_suffix(path) else "small"


def _inside(name: str) -> str:
    """A place in the crate for a file, also for one from outside the working folder.

    >>> _inside("../scans/a.nii.gz"), _inside("results/demo/folds.json")
    ('given/scans/a.nii.gz', 'results/demo/folds.json')
    """
    path = Path(name)
    parts = [part for part in path.parts if part not in ("..", path.anchor)]
    return name if tuple(parts) == path.parts else Path("given", *parts).as_posix()


def _copied(name: str, path: Path) -> CrateFile:
    return CrateFile(name, path, provenance.file_sha256(path))
