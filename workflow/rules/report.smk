import shutil

from minivess.figures import FIGURES, figure_definition


def figure_inputs(wildcards):
    """A figure's tables, and what else the ones need that draw groups or show volumes."""
    files = tables(*figure_definition(wildcards.figure).tables)
    if wildcards.figure == "reliability":
        files.append(paths.manifest(ROOT))
    if wildcards.figure == "qualitative":
        checkpoints.folds.get()
        for run in PLAN.runs():
            folder = paths.run_folder(ROOT, run)
            files += [
                paths.prediction(folder, case) for case in PLAN.validated(run.fold)
            ]
    return files


rule figure:
    input:
        lambda wildcards: paths.step_config(ROOT, f"figure-{wildcards.figure}"),
        figure_inputs,
    output:
        report(
            paths.figure(ROOT, "{figure}", "svg"),
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        [paths.figure(ROOT, "{figure}", suffix) for suffix in ("pdf", "png", "json")],
    log:
        paths.log(ROOT, "figure", "{figure}"),
    params:
        code=lambda wildcards: figure_digest(wildcards.figure),
        arms=PLAN.experiment.arms(),
        caption=lambda wildcards: figure_definition(wildcards.figure).caption,
    message:
        "figure {wildcards.figure}"
    shell:
        "{MINIVESS} --log {log} figure -e {EXPERIMENT} {wildcards.figure}"


rule results:
    input:
        # By name, though nothing below needs them: a lost one is made again.
        files_of_runs,
        paths.tracked(ROOT),
        paths.validation_page(ROOT),
        tables("runs", "params", "metrics", "cases", "history"),
        tables("ensembles", "summary", "comparison", "ranks", "power", "baseline"),
        tables("mixed_model", "seeds"),
        # Their volumes are recorded in it.
        all_ensembles(paths.ensembles_record),
        paths.summary(ROOT),
        paths.summary_text(ROOT),
        paths.table(ROOT, "champions"),
        paths.champions(ROOT),
        uncertainty_of_runs,
        tables("calibration", "reliability", "conformal", "coverage"),
        [
            paths.figure(ROOT, name, suffix)
            for name in FIGURES
            for suffix in ("svg", "pdf", "png", "json")
        ],


rule report:
    input:
        rules.results.input,
    output:
        paths.report(ROOT),
    log:
        paths.log(ROOT, "report"),
    params:
        config=paths.step_config(ROOT, "experiment"),
    message:
        "Snakemake's report"
    shell:
        "{LOCKED} {PYTHON} -m snakemake --snakefile {workflow.main_snakefile:q} --cores 1 "
        "--config experiment={params.config:q} --report {output:q} -- results > {log:q} 2>&1"
