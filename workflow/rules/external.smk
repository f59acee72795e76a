import re

# Not part of `all`: an external set is looked at when the experiment is finished.


rule evaluate_external:
    input:
        lambda wildcards: paths.step_config(ROOT, f"external-{wildcards.set}"),
        lambda wildcards: PLAN.external[wildcards.set],
        paths.step_config(ROOT, "preprocess"),
        paths.manifest(ROOT),
        paths.champions(ROOT),
        [paths.weights(paths.run_folder(ROOT, run)) for run in PLAN.runs()],
    output:
        [
            paths.table(paths.external_folder(ROOT, "{set}"), name)
            for name in ("external", "properties", "shift")
        ],
        paths.set_result(paths.external_folder(ROOT, "{set}")),
    log:
        paths.log(ROOT, "evaluate_external", "{set}"),
    wildcard_constraints:
        # Nothing makes the results of a set that the config no longer names.
        set="|".join(map(re.escape, PLAN.external)) or "(?!)",
    threads: job_threads()
    resources:
        **needs("evaluate_external"),
    params:
        code=step_digest("evaluate_external"),
    message:
        "the champion on the external set {wildcards.set}"
    shell:
        "{MINIVESS} --log {log} external -e {EXPERIMENT} --name {wildcards.set}"


rule external:
    input:
        [paths.set_result(paths.external_folder(ROOT, name)) for name in PLAN.external],
