from minivess.tracking.address import shown, tracking_uri


def tables(*names):
    return [paths.table(ROOT, name) for name in names]


def files_of_runs(wildcards):
    """Everything that MLflow is to know of all runs."""
    checkpoints.folds.get()
    files = []
    for run in PLAN.runs():
        folder = paths.run_folder(ROOT, run)
        files += [
            paths.run_record(folder),
            paths.history(folder),
            paths.weights(folder),
            *other_weights(folder),
            *averages(folder),
        ]
        for case in PLAN.validated(run.fold):
            files += [paths.prediction(folder, case), paths.probability(folder, case)]
            files.append(paths.case_metrics(folder, case))
    return files


rule evaluate:
    input:
        paths.step_config(ROOT, "evaluate"),
        paths.prediction(RUN, "{case}"),
        paths.probability(RUN, "{case}"),
        prepared("{case}"),
    output:
        paths.case_metrics(RUN, "{case}"),
    log:
        paths.log(ROOT, "evaluate", "{model}-{loss}-seed{seed}-fold{fold}-{case}"),
    resources:
        **needs("evaluate"),
    params:
        code=step_digest("evaluate"),
    message:
        "metrics of {wildcards.case}, {wildcards.model} {wildcards.loss}"
    shell:
        "{MINIVESS} --log {log} evaluate -e {EXPERIMENT} "
        + RUN_OPTIONS
        + " --case {wildcards.case}"


rule baseline:
    input:
        held_out_cases,
        paths.folds(ROOT),
        paths.manifest(ROOT),
    output:
        paths.baseline(ROOT),
    log:
        paths.log(ROOT, "baseline"),
    resources:
        **needs("baseline"),
    params:
        code=step_digest("baseline"),
    message:
        "best single threshold of each case"
    shell:
        "{MINIVESS} --log {log} baseline -e {EXPERIMENT}"


rule track:
    input:
        files_of_runs,
        paths.step_config(ROOT, "evaluate"),
        paths.step_config(ROOT, "predict"),
        paths.step_config(ROOT, "preprocess"),
        paths.folds(ROOT),
    output:
        paths.tracked(ROOT),
    log:
        paths.log(ROOT, "track"),
    params:
        code=step_digest("track"),
        store=shown(tracking_uri()),
    message:
        "MLflow gets what it lacks"
    shell:
        "{MINIVESS} --log {log} track -e {EXPERIMENT}"


rule export:
    input:
        paths.tracked(ROOT),
    output:
        tables("runs", "params", "metrics", "cases", "history"),
    log:
        paths.log(ROOT, "export"),
    params:
        code=step_digest("export"),
    message:
        "tables from MLflow"
    shell:
        "{MINIVESS} --log {log} export -e {EXPERIMENT}"


rule compare:
    input:
        paths.step_config(ROOT, "compare"),
        paths.manifest(ROOT),
        tables("cases", "baseline"),
        all_ensembles(paths.ensembles_metrics),
        record_of_skeletons,
    output:
        tables("ensembles", "summary", "comparison", "ranks", "power"),
        tables("mixed_model", "seeds"),
        paths.summary(ROOT),
        report(
            paths.summary_text(ROOT),
            category="Tables",
            labels={"table": "summary"},
        ),
    log:
        paths.log(ROOT, "compare"),
    params:
        code=step_digest("compare"),
        arms=PLAN.experiment.arms() + PLAN.experiment.ensemble_arms(),
    message:
        "means, intervals and tests"
    shell:
        "{MINIVESS} --log {log} compare -e {EXPERIMENT}"
