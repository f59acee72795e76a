"""From raw volumes to tables, figures and a paper: the file-level DAG of one experiment."""

import shlex
import sys
from pathlib import Path

from minivess.environment import prepare_environment

prepare_environment()

from minivess import paths
from minivess.errors import MinivessError
from minivess.workflow import LOCK_VARIABLE, Plan, plan_experiment
from snakemake.exceptions import WorkflowError


configfile: Path(workflow.basedir) / "configs/config.yaml"


try:
    PLAN: Plan = plan_experiment(config, Path(workflow.basedir), workflow.dryrun)
except MinivessError as error:
    raise WorkflowError(str(error)) from None

ROOT = PLAN.root
EXPERIMENT = PLAN.experiment.name
PYTHON = shlex.quote(sys.executable)
MINIVESS = f"{PYTHON} -m minivess"
# Tells the process that makes the report that its caller holds the lock.
LOCKED = f"{LOCK_VARIABLE}={shlex.quote(str(ROOT.resolve()))}"


wildcard_constraints:
    model=r"[A-Za-z0-9._-]+",
    loss=r"[A-Za-z0-9._-]+",
    seed=r"\d+",
    fold=r"\d+",
    case=r"[A-Za-z0-9._-]+",
    figure=r"[a-z_]+",


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/analyze.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/paper.smk"


onsuccess:
    if paths.summary_text(ROOT).exists() and "all" in {
        job.rule.name for job in workflow.dag.jobs
    }:
        print(paths.summary_text(ROOT).read_text(encoding="utf-8"), file=sys.stderr)


rule all:
    default_target: True
    input:
        rules.results.input,
        paths.report(ROOT),
