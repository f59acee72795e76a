"""A made-up experiment of four jobs, as the steps and the Snakefile leave it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from minivess import output, stepcode
from minivess.reproducibility.digests import as_text
from minivess.reproducibility.graph import write_graph
from minivess.reproducibility.records import JobRecord, lock_digest, record_file

ROOT = Path("results/x")
GIVEN = ("scans/a.nii.gz", "scans/a_label.nii.gz", "scans/cases.csv")
PREPARED = "results/x/data/preprocessed/a/image.npy"
PREDICTION = "results/x/runs/net/dice_ce/seed0/fold0/predictions/a.nii.gz"
SUMMARY = "results/x/tables/summary.json"
# rule -> inputs, outputs
JOBS: dict[str, tuple[list[str], list[str]]] = {
    "manifest": (["results/x/config/manifest.yaml", *GIVEN], ["results/x/data/manifest.parquet"]),
    "preprocess": (
        ["results/x/config/preprocess.yaml", "results/x/data/manifest.parquet"],
        [PREPARED],
    ),
    "predict": ([PREPARED], [PREDICTION]),
    "compare": ([PREDICTION], [SUMMARY]),
}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Small:
    """The working folder of the experiment; everything else is relative to it."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / ROOT

    def log(self, rule: str) -> str:
        return f"results/x/logs/{rule}.log"

    def record(self, rule: str, code: str | None = None) -> None:
        """Write the record of a job, of the files as they are now."""
        outputs = {name: sha256(Path(name)) for name in JOBS[rule][1]}
        configs = sorted((ROOT / "config").glob("*.yaml"))
        second = list(JOBS).index(rule)
        record = JobRecord(
            rule=rule,
            command=f"minivess {rule} -e x",
            root=ROOT.as_posix(),
            outputs=outputs,
            config={path.stem: sha256(path) for path in configs},
            code=code or stepcode.step_digest(rule),
            git={"git_commit": "0" * 40, "git_dirty": "false"},
            lock=lock_digest(),
            run_digest=None,
            versions={"sys_python": "3.12.1", "sys_snakemake": "9.20.0", "sys_torch": "2.12.0"},
            started=f"2026-01-02T03:04:0{second}.250000+00:00",
            ended=f"2026-01-02T03:04:0{second}.750000+00:00",
        )
        log = Path(self.log(rule))
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        output.write_json(asdict(record), record_file(log))

    def job(self, rule: str) -> dict[str, str | list[str]]:
        """A job as the Snakefile describes it."""
        inputs, outputs = JOBS[rule]
        command = f"minivess --log {self.log(rule)} {rule} -e x"
        log = [self.log(rule)]
        return {"rule": rule, "command": command, "log": log, "inputs": inputs, "outputs": outputs}

    def write_graph(self) -> None:
        write_graph(ROOT, [self.job(rule) for rule in JOBS], None)

    def write_digests(self) -> None:
        names = [name for _, outputs in JOBS.values() for name in outputs]
        digests = {Path(name).relative_to(ROOT).as_posix(): sha256(Path(name)) for name in names}
        output.write_text(as_text(digests), ROOT / "SHA256SUMS")


def make_small(folder: Path) -> Small:
    """Make the experiment in the working folder."""
    small = Small(folder)
    for name in (*GIVEN, PREPARED, PREDICTION):
        output.write_text(f"content of {name}", Path(name))
    for step in ("manifest", "preprocess", "experiment"):
        output.write_text(f"name: {step}\n", ROOT / "config" / f"{step}.yaml")
    image, label = (Path(name) for name in GIVEN[:2])
    row = {"image": image.as_posix(), "image_sha256": sha256(image)}
    row |= {"label": label.as_posix(), "label_sha256": sha256(label)}
    output.write_parquet(pl.DataFrame([row]), ROOT / "data" / "manifest.parquet")
    cell = {"mean": 0.5, "ci_low": 0.25, "ci_high": 0.75, "n_cases": 4, "unit": "1"}
    arms = [{"model": "net", "loss": "dice_ce", "metrics": {"dice": cell}}]
    output.write_text(json.dumps({"arms": arms}), Path(SUMMARY))
    for rule in JOBS:
        small.record(rule)
    small.write_graph()
    small.write_digests()
    return small
