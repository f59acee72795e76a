from minivess import paper, paper_sets
from minivess.steps import paper as paper_step

MANUSCRIPT = Path(workflow.basedir) / "paper"


def quarto_is_there(wildcards):
    """No file, but an error at once, not after hours of training, where Quarto is missing."""
    try:
        if not DRY_RUN:
            paper_step.find_quarto()
    except MinivessError as error:
        raise WorkflowError(str(error)) from None
    return []


rule paper:
    input:
        quarto_is_there,
        rules.results.input,
        # Those that are there: nothing is unlocked or evaluated for the paper.
        paper_sets.set_files(ROOT, PLAN.external),
        paths.step_config(ROOT, "experiment"),
        [MANUSCRIPT / name for name in paper_step.MANUSCRIPT],
        MANUSCRIPT.parent / paper.LOCK,
    output:
        [paths.paper_folder(ROOT) / name for name in paper_step.RENDERED],
    log:
        paths.log(ROOT, "paper"),
    params:
        code=step_digest("paper"),
    message:
        "the paper, by Quarto"
    shell:
        "{MINIVESS} --log {log} paper -e {EXPERIMENT}"


rule dashboard:
    input:
        quarto_is_there,
        rules.results.input,
        paths.step_config(ROOT, "experiment"),
        MANUSCRIPT / paper_step.DASHBOARD,
    output:
        paths.dashboard(ROOT),
    log:
        paths.log(ROOT, "dashboard"),
    params:
        code=step_digest("dashboard"),
    message:
        "the dashboard, by Quarto"
    shell:
        "{MINIVESS} --log {log} dashboard -e {EXPERIMENT}"
