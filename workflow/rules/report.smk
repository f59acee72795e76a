import shutil

from minivess.figures import FIGURES, figure_definition


def figure_inputs(wildcards):
    """A figure's tables, and predictions and volumes for the one that shows them."""
    files = tables(*figure_definition(wildcards.figure).tables)
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
        code=lambda wildcards: wf.figure_code(wildcards.figure),
        caption=lambda wildcards: figure_definition(wildcards.figure).caption,
    message:
        "figure {wildcards.figure}"
    shell:
        "{MINIVESS} --log {log} figure -e {EXPERIMENT} {wildcards.figure}"


def kept_files(wildcards):
    """What runs leave behind and people use: asked for by name, so that a lost file is remade."""
    checkpoints.folds.get()
    files = [paths.tracked(ROOT), *files_of_runs(wildcards)]
    for run in PLAN.runs():
        folder = paths.run_folder(ROOT, run)
        files.append(paths.weights(folder))
        for case in PLAN.validated(run.fold):
            files += [paths.prediction(folder, case), paths.probability(folder, case)]
    return files


rule results:
    input:
        kept_files,
        paths.validation_page(ROOT),
        tables("runs", "params", "metrics", "cases", "history"),
        tables("summary", "comparison", "baseline"),
        paths.summary(ROOT),
        paths.summary_text(ROOT),
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
        "{sys.executable} -m snakemake --snakefile {workflow.main_snakefile} --cores 1 "
        "--config experiment={params.config} --report {output} -- results > {log} 2>&1"
