ENSEMBLES = paths.ensembles(ROOT, "{model}", "{loss}", "{fold}")


def members(wildcards):
    """Networks of all seeds, what they predicted, and the cases of the fold."""
    checkpoints.folds.get()
    fold = PLAN.fold(int(wildcards.fold))
    files = [
        file for case in (*fold.selection, *fold.validation) for file in prepared(case)
    ]
    for seed in PLAN.experiment.seeds:
        run = wf.RunKey(wildcards.model, wildcards.loss, seed, int(wildcards.fold))
        folder = paths.run_folder(ROOT, run)
        files += [paths.weights(folder), paths.run_record(folder), *averages(folder)]
        for case in fold.validation:
            files += [paths.prediction(folder, case), paths.probability(folder, case)]
    return files


def all_ensembles(made):
    """One file of each network, loss and fold; none without ensembles."""
    if not PLAN.experiment.ensembles.kinds:
        return []
    return [
        made(paths.ensembles(ROOT, model, loss, fold))
        for model, loss in PLAN.experiment.arms()
        for fold in range(PLAN.n_folds)
    ]


rule ensembles:
    input:
        paths.step_config(ROOT, "ensembles"),
        paths.folds(ROOT),
        members,
    output:
        paths.ensembles_record(ENSEMBLES),
        paths.ensembles_metrics(ENSEMBLES),
    log:
        paths.log(ROOT, "ensembles", "{model}-{loss}-fold{fold}"),
    threads: job_threads()
    resources:
        **needs("ensembles"),
    params:
        code=step_digest("ensembles"),
    message:
        "ensembles of {wildcards.model} {wildcards.loss} fold {wildcards.fold}"
    shell:
        "{MINIVESS} --log {log} ensembles -e {EXPERIMENT} --model {wildcards.model} "
        "--loss {wildcards.loss} --fold {wildcards.fold}"
