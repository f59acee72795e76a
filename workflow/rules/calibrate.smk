from minivess.steps import calibrate as calibrate_step


def calibration_inputs(wildcards):
    """Selection cases to fit on, held-out cases with their predictions to test on."""
    checkpoints.folds.get()
    fold = PLAN.fold(int(wildcards.fold))
    run = paths.run_folder(
        ROOT,
        f"{wildcards.model}/{wildcards.loss}/seed{wildcards.seed}/fold{wildcards.fold}",
    )
    files = [
        file for case in (*fold.selection, *fold.validation) for file in prepared(case)
    ]
    for case in fold.validation:
        files += [paths.prediction(run, case), paths.probability(run, case)]
    return files


def uncertainty_of_runs(wildcards):
    """What the calibration of every run has made."""
    files = []
    for run in PLAN.runs():
        folder = paths.run_folder(ROOT, run)
        files += [paths.calibrators(folder)]
        files += [paths.run_table(folder, name) for name in calibrate_step.TABLES]
    return files


rule calibrate:
    input:
        paths.step_config(ROOT, "calibrate"),
        paths.weights(RUN),
        paths.run_record(RUN),
        paths.folds(ROOT),
        calibration_inputs,
    output:
        paths.calibrators(RUN),
        [paths.run_table(RUN, name) for name in calibrate_step.TABLES],
    log:
        paths.log(ROOT, "calibrate", "{model}-{loss}-seed{seed}-fold{fold}"),
    threads: job_threads()
    resources:
        **needs("calibrate"),
    params:
        code=step_digest("calibrate"),
    message:
        "calibrate {wildcards.model} {wildcards.loss} seed {wildcards.seed} fold {wildcards.fold}"
    shell:
        "{MINIVESS} --log {log} calibrate -e {EXPERIMENT} " + RUN_OPTIONS


rule coverage:
    input:
        paths.step_config(ROOT, "compare"),
        uncertainty_of_runs,
    output:
        tables(*calibrate_step.TABLES, "coverage"),
    log:
        paths.log(ROOT, "coverage"),
    params:
        code=step_digest("coverage"),
        runs=lambda wildcards: [str(run) for run in PLAN.runs()],
    message:
        "calibration and coverage over all runs"
    shell:
        "{MINIVESS} --log {log} coverage -e {EXPERIMENT}"
