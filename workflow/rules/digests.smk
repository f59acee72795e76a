from minivess.reproducibility.digests import declared_files


def declared(wildcards):
    """Every declared output but logs, benchmarks and the report."""
    checkpoints.folds.get()
    return declared_files(
        ROOT,
        PLAN.made_files,
        PLAN.runs(),
        PLAN.validated,
        PLAN.experiment.ensembles,
        PLAN.experiment.training,
    )


rule digests:
    input:
        declared,
    output:
        paths.digests(ROOT),
    log:
        paths.log(ROOT, "digests"),
    params:
        code=step_digest("digests"),
    message:
        "digests of every output"
    shell:
        "{MINIVESS} --log {log} digests -e {EXPERIMENT}"
