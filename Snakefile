"""From raw volumes to tables, figures and a paper: the file-level DAG of one experiment."""

import atexit
import shlex
import sys
from pathlib import Path

from minivess.environment import prepare_environment

prepare_environment()

from minivess import paths
from minivess.errors import MinivessError
from minivess.job_events import record_events
from minivess.reproducibility.graph import OTHER_TARGETS, write_graph
from minivess.resources import rule_resources
from minivess.workflow import (
    LOCK_VARIABLE,
    Plan,
    answer_sigterm,
    end_with_caller,
    lend_step_files,
    plan_experiment,
)
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

end_with_caller()


configfile: Path(workflow.basedir) / "configs/config.yaml"


# `workflow.dryrun` knows it only once the DAG is being built.
DRY_RUN = workflow.output_settings.dryrun

try:
    PLAN: Plan = plan_experiment(
        config, Path(workflow.basedir), DRY_RUN, workflow.is_main_process
    )
    if DRY_RUN and workflow.is_main_process:
        lend_step_files(PLAN)
except MinivessError as error:
    raise WorkflowError(str(error)) from None

ROOT = PLAN.root
EXPERIMENT = PLAN.experiment.name
PYTHON = shlex.quote(sys.executable)
MINIVESS = f"{PYTHON} -m minivess"
# Tells the process that makes the report that its caller holds the lock.
LOCKED = f"{LOCK_VARIABLE}={shlex.quote(str(ROOT.resolve()))}"


def needs(rule):
    """Memory, time and GPUs of a rule's jobs."""
    return rule_resources(rule, PLAN)


wildcard_constraints:
    model=r"[A-Za-z0-9._-]+",
    loss=r"[A-Za-z0-9._-]+",
    seed=r"\d+",
    fold=r"\d+",
    case=r"[A-Za-z0-9._-]+",
    set=r"[A-Za-z0-9._-]+",
    figure=r"[a-z_]+",


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/ensembles.smk"
include: "workflow/rules/analyze.smk"
include: "workflow/rules/champion.smk"
include: "workflow/rules/external.smk"
include: "workflow/rules/calibrate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/digests.smk"
include: "workflow/rules/paper.smk"
include: "workflow/rules/deploy.smk"


# Seconds and little memory each: not worth a place in a cluster's queue.
localrules:
    prepared_cases,
    trained_runs,
    accept,
    folds,
    track,
    export,
    external,
    compare,
    champion,
    coverage,
    figure,
    digests,
    report,
    paper,
    dashboard,
    deploy,


def record_graph(complete):
    """Keep which file was made from which, of all jobs that are done, for `minivess trace`."""
    dag = workflow.dag
    jobs = [
        {
            "rule": job.rule.name,
            "command": job.shellcmd or "",
            "log": [str(file) for file in job.log],
            "inputs": [str(file) for file in job.input],
            "outputs": [str(file) for file in job.output],
        }
        for job in dag.jobs
        if job.output and dag.noneedrun_finished(job)
    ]
    whole = complete and "all" in {job.rule.name for job in dag.jobs}
    try:
        write_graph(ROOT, jobs, OTHER_TARGETS if whole else None)
    except MinivessError as error:
        raise WorkflowError(str(error)) from None


@atexit.register
def tell_what_is_planned_later():
    """At the end of a dry run, in which no hook runs: its plan ends where a checkpoint is to run."""
    if not DRY_RUN or workflow.dag is None:
        return
    planned = workflow.dag.needrun_jobs(exclude_finished=False)
    names = sorted(job.rule.name for job in planned if job.is_checkpoint)
    if names:
        print(
            f"What comes after {' and '.join(names)} is planned only then: the same call goes on with it."
        )


onstart:
    answer_sigterm()
    try:
        record_events(logger, paths.job_events(ROOT))
    except MinivessError as error:
        raise WorkflowError(str(error)) from None


onsuccess:
    record_graph(complete=True)
    if paths.summary_text(ROOT).exists() and "all" in {
        job.rule.name for job in workflow.dag.jobs
    }:
        print(paths.summary_text(ROOT).read_text(encoding="utf-8"), file=sys.stderr)


onerror:
    record_graph(complete=False)


rule all:
    default_target: True
    input:
        rules.results.input,
        paths.digests(ROOT),
        paths.report(ROOT),
