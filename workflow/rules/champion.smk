rule champion:
    input:
        paths.step_config(ROOT, "compare"),
        paths.manifest(ROOT),
        tables("cases", "runs"),
        [paths.weights(paths.run_folder(ROOT, run)) for run in PLAN.runs()],
    output:
        tables("champions"),
        paths.champions(ROOT),
    log:
        paths.log(ROOT, "champion"),
    params:
        code=step_digest("champion"),
        arms=PLAN.experiment.arms() + PLAN.experiment.ensemble_arms(),
    message:
        "champions, and their aliases in MLflow"
    shell:
        "{MINIVESS} --log {log} champion choose -e {EXPERIMENT}"
