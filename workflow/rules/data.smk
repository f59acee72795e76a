from minivess import workflow as wf
from minivess.stepcode import figure_digest, step_digest

PHANTOM = PLAN.experiment.data.source == "phantom"
PREPARED = ["image.npy", "label.npy", "foreground.npy", "case.json"]


def prepared(case):
    return [paths.preprocessed_case(ROOT, case) / name for name in PREPARED]


if PHANTOM:

    rule phantom:
        input:
            paths.step_config(ROOT, "phantom"),
        output:
            PLAN.made_files,
        log:
            paths.log(ROOT, "phantom"),
        resources:
            **needs("phantom"),
        params:
            code=step_digest("phantom"),
        message:
            "synthetic volumes"
        shell:
            "{MINIVESS} --log {log} data phantom -e {EXPERIMENT}"


if PLAN.made_files and not PHANTOM:

    rule unpack:
        input:
            PLAN.source_files,
        output:
            PLAN.made_files,
        log:
            paths.log(ROOT, "unpack"),
        resources:
            **needs("unpack"),
        params:
            code=step_digest("unpack"),
        message:
            "unpack the data set"
        shell:
            "{MINIVESS} --log {log} data unpack -e {EXPERIMENT}"


rule manifest:
    input:
        paths.step_config(ROOT, "manifest"),
        PLAN.made_files or PLAN.source_files,
    output:
        paths.manifest(ROOT),
    log:
        paths.log(ROOT, "manifest"),
    resources:
        **needs("manifest"),
    params:
        code=step_digest("manifest"),
    message:
        "manifest of {output}"
    shell:
        "{MINIVESS} --log {log} data manifest -e {EXPERIMENT}"


rule validate:
    input:
        paths.step_config(ROOT, "validate"),
        paths.manifest(ROOT),
    output:
        paths.validation_table(ROOT),
        report(
            paths.validation_page(ROOT), category="Data", labels={"page": "validation"}
        ),
    log:
        paths.log(ROOT, "validate"),
    resources:
        **needs("validate"),
    params:
        code=step_digest("validate"),
    message:
        "validate every case"
    shell:
        "{MINIVESS} --log {log} data validate -e {EXPERIMENT}"


# A checkpoint, after which Snakemake looks again at what has changed. While a rule is to run, it looks
# at nothing that comes after it, and `ancient` passes nothing on: another patch size, which data are
# validated for, would train nothing anew.
checkpoint accept:
    input:
        paths.validation_table(ROOT),
    output:
        paths.validation_accepted(ROOT),
    log:
        paths.log(ROOT, "accept"),
    params:
        code=step_digest("accept"),
    message:
        "stop here if there is an error in the data"
    shell:
        "{MINIVESS} --log {log} data accept -e {EXPERIMENT}"


rule preprocess:
    input:
        paths.step_config(ROOT, "preprocess"),
        # That the data were accepted matters, not when: what they are is in the manifest.
        ancient(paths.validation_accepted(ROOT)),
        paths.manifest(ROOT),
    output:
        prepared("{case}"),
    log:
        paths.log(ROOT, "preprocess", "{case}"),
    resources:
        **needs("preprocess"),
    params:
        code=step_digest("preprocess"),
    message:
        "preprocess {wildcards.case}"
    shell:
        "{MINIVESS} --log {log} data preprocess -e {EXPERIMENT} --case {wildcards.case}"


checkpoint folds:
    input:
        paths.step_config(ROOT, "folds"),
        ancient(paths.validation_accepted(ROOT)),
        paths.manifest(ROOT),
        PLAN.experiment.folds.folds_file or [],
    output:
        paths.folds(ROOT),
    log:
        paths.log(ROOT, "folds"),
    params:
        code=step_digest("folds"),
    message:
        "folds, once and for all"
    shell:
        "{MINIVESS} --log {log} data folds -e {EXPERIMENT}"


rule skeletons:
    input:
        [paths.preprocessed_case(ROOT, case) / "label.npy" for case in PLAN.unlocked()],
        paths.manifest(ROOT),
    output:
        [paths.label_skeleton(ROOT, case) for case in PLAN.unlocked()],
        paths.skeletons_record(ROOT),
    log:
        paths.log(ROOT, "skeletons"),
    resources:
        **needs("skeletons"),
    params:
        code=step_digest("skeletons"),
    message:
        "tubed skeletons of the labels"
    shell:
        "{MINIVESS} --log {log} data skeletons -e {EXPERIMENT}"


def held_out_cases(wildcards):
    """Preprocessed cases of all folds; the test cases are in none."""
    checkpoints.folds.get()
    cases = [case for fold in range(PLAN.n_folds) for case in PLAN.validated(fold)]
    return [file for case in sorted(cases) for file in prepared(case)]


rule prepared_cases:
    input:
        paths.validation_page(ROOT),
        paths.folds(ROOT),
        held_out_cases,
