"""From raw volumes to tables, figures and a paper: the file-level DAG of one experiment."""

import sys
from pathlib import Path

from minivess.environment import prepare_environment

prepare_environment()

from minivess import paths
from minivess.errors import MinivessError
from minivess.workflow import Plan, hold_lock, plan_experiment
from snakemake.exceptions import WorkflowError


configfile: Path(workflow.basedir) / "configs/config.yaml"


try:
    PLAN: Plan = plan_experiment(config, Path(workflow.basedir))
except MinivessError as error:
    raise WorkflowError(str(error)) from None

ROOT = PLAN.root
EXPERIMENT = PLAN.experiment.name
MINIVESS = f"{sys.executable} -m minivess"


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


onstart:
    hold_lock(ROOT)


onsuccess:
    if paths.summary_text(ROOT).exists():
        print(paths.summary_text(ROOT).read_text(encoding="utf-8"), file=sys.stderr)


rule all:
    default_target: True
    input:
        rules.results.input,
        paths.report(ROOT),
