# Not part of `all`: champions are exported when somebody wants to use them.

from minivess.statistics.champion import RULES

BUNDLES = [paths.bundle(ROOT, kind) for kind in sorted(RULES)]
NETWORKS = [paths.bundle_model(folder) for folder in BUNDLES] + [
    paths.bundle_variant(folder, variant)
    for folder in BUNDLES
    for variant in PLAN.experiment.deploy.variants
]
PARITY = [paths.bundle_parity(folder) for folder in BUNDLES]


rule deploy_onnx:
    input:
        paths.step_config(ROOT, "deploy_onnx"),
        paths.champions(ROOT),
        [paths.weights(paths.run_folder(ROOT, run)) for run in PLAN.runs()],
        [paths.run_record(paths.run_folder(ROOT, run)) for run in PLAN.runs()],
        held_out_cases if PLAN.experiment.deploy.variants else [],
    output:
        NETWORKS,
    log:
        paths.log(ROOT, "deploy_onnx"),
    resources:
        **needs("deploy_onnx"),
    params:
        code=step_digest("deploy_onnx"),
    message:
        "champions as ONNX"
    shell:
        "{MINIVESS} --log {log} deploy onnx -e {EXPERIMENT}"


rule deploy_parity:
    input:
        paths.step_config(ROOT, "deploy_parity"),
        paths.champions(ROOT),
        paths.manifest(ROOT),
        NETWORKS,
        files_of_runs,
    output:
        PARITY,
    log:
        paths.log(ROOT, "deploy_parity"),
    threads: job_threads()
    resources:
        **needs("deploy_parity"),
    params:
        code=step_digest("deploy_parity"),
    message:
        "exported networks against the trained ones"
    shell:
        "{MINIVESS} --log {log} deploy parity -e {EXPERIMENT}"


rule deploy:
    input:
        paths.step_config(ROOT, "deploy"),
        paths.champions(ROOT),
        paths.manifest(ROOT),
        paths.folds(ROOT),
        tables("summary", "metrics", "coverage"),
        held_out_cases,
        NETWORKS,
        PARITY,
    output:
        [
            file(folder)
            for folder in BUNDLES
            for file in (
                paths.model_card,
                paths.bundle_mlmodel,
                paths.bundle_example,
                paths.bundle_requirements,
                paths.bundle_record,
            )
        ],
    log:
        paths.log(ROOT, "deploy"),
    params:
        code=step_digest("deploy"),
        store=shown(tracking_uri()),
    message:
        "model cards, and the exported champions in MLflow"
    shell:
        "{MINIVESS} --log {log} deploy bundle -e {EXPERIMENT}"
