from minivess.losses import needs_of
from minivess.losses.needs import SKELETON
from minivess.losses.own import is_own, source_file
from minivess.models.pretrained import weight_files
from minivess.training.selection import training_code
from minivess.training.warm_start import warm_start_file

RUN = paths.run_folder(ROOT, "{model}/{loss}/seed{seed}/fold{fold}")
RUN_OPTIONS = (
    "--model {wildcards.model} --loss {wildcards.loss} "
    "--seed {wildcards.seed} --fold {wildcards.fold}"
)


def averages(run):
    """Averaged weights and snapshots of a run, where its training keeps them."""
    return [paths.averages(run)] if PLAN.experiment.training.keeps_weights() else []


def published_weights(wildcards):
    """The files that a network's training starts from, where it does."""
    weights = PLAN.experiment.models[wildcards.model].weights
    return [] if weights is None else weight_files(weights)


def begun_with(wildcards):
    """The file of other weights that a fold begins with, where it does."""
    return warm_start_file(PLAN.experiment.training, int(wildcards.fold)) or []


def own_loss(wildcards):
    """The file of a loss that is not of the registry."""
    return source_file(wildcards.loss) if is_own(wildcards.loss) else []


def other_weights(run):
    """Best weights of a run by the selection metrics that do not predict."""
    names = PLAN.experiment.training.other_metrics()
    return [paths.best_weights(run, name) for name in names]


def job_threads(processes=1):
    """Asked when a job is planned: until then it is not known which machine will run it."""
    return lambda wildcards: wf.job_threads(
        PLAN.experiment, None if workflow.non_local_exec else workflow.cores, processes
    )


def cases_of_fold(wildcards):
    """Preprocessed cases that a run trains and selects on."""
    checkpoints.folds.get()
    fold = PLAN.fold(int(wildcards.fold))
    return [file for case in (*fold.train, *fold.selection) for file in prepared(case)]


def skeletons_of_fold(wildcards):
    """Labels with their skeletons that a run trains on, where its loss needs them."""
    if SKELETON not in needs_of(wildcards.loss):
        return []
    checkpoints.folds.get()
    fold = PLAN.fold(int(wildcards.fold))
    return [paths.label_skeleton(ROOT, case) for case in fold.train]


def record_of_skeletons(wildcards):
    """How many components have none, where a loss needs them."""
    needed = any(SKELETON in needs_of(loss) for loss in PLAN.experiment.losses)
    return paths.skeletons_record(ROOT) if needed else []


rule train:
    input:
        cases_of_fold,
        skeletons_of_fold,
        paths.folds(ROOT),
        lambda wildcards: paths.step_config(ROOT, f"train-{wildcards.model}"),
        published_weights,
        begun_with,
        own_loss,
    output:
        paths.weights(RUN),
        paths.run_record(RUN),
        paths.history(RUN),
        other_weights(RUN),
        averages(RUN),
    log:
        paths.log(ROOT, "train", "{model}-{loss}-seed{seed}-fold{fold}"),
    benchmark:
        ROOT / "benchmarks/train/{model}-{loss}-seed{seed}-fold{fold}.tsv"
    threads: job_threads(PLAN.experiment.compute.devices)
    resources:
        **needs("train"),
    params:
        code=training_code(PLAN.experiment.training),
    message:
        "train {wildcards.model} {wildcards.loss} seed {wildcards.seed} fold {wildcards.fold}"
    shell:
        "{MINIVESS} --log {log} train -e {EXPERIMENT} "
        + RUN_OPTIONS
        + " --progress plain"


rule predict:
    input:
        paths.step_config(ROOT, "predict"),
        paths.weights(RUN),
        paths.run_record(RUN),
        prepared("{case}"),
    output:
        paths.prediction(RUN, "{case}"),
        paths.probability(RUN, "{case}"),
    log:
        paths.log(ROOT, "predict", "{model}-{loss}-seed{seed}-fold{fold}-{case}"),
    threads: job_threads()
    resources:
        **needs("predict"),
    params:
        code=step_digest("predict"),
    message:
        "predict {wildcards.case} with {wildcards.model} {wildcards.loss}"
    shell:
        "{MINIVESS} --log {log} predict -e {EXPERIMENT} "
        + RUN_OPTIONS
        + " --case {wildcards.case}"


rule trained_runs:
    input:
        [
            [paths.weights(run), paths.run_record(run), paths.history(run)]
            for run in (paths.run_folder(ROOT, key) for key in PLAN.runs())
        ],
