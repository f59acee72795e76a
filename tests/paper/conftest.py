"""A small finished experiment, made with the project's functions, and a reader of the manuscript.

The reader executes the manuscript as Quarto does: code cells in a kernel, inline expressions as
`user_expressions` of that kernel, and puts what they show in their place.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from minivess import output, paths, seeding
from minivess.config.load import resolve, write_step_files
from minivess.config.schema import FigureConfig, StatisticsConfig
from minivess.figures import FIGURES, FigureInputs, make_figure
from minivess.figures.qualitative import QualitativeCase, qualitative_cases
from minivess.metrics import METRICS
from minivess.statistics import champion, tables
from minivess.statistics.compare import compare, summarise
from minivess.statistics.coverage import coverage_table
from minivess.statistics.mixed_model import mixed_model
from minivess.statistics.power import detectable
from minivess.statistics.ranks import rank_arms
from minivess.statistics.seeds import seed_spread
from minivess.statistics.summary import summary_json
from minivess.types import RunKey

PROJECT = Path(__file__).parents[2]
MANUSCRIPT = PROJECT / "paper"
CHUNK = re.compile(r"^```\{python\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?P<before>^|[^`])`\{python\}[ \t](?P<code>[^`]+)`", re.MULTILINE)

type Arms = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Recipe:
    """What an experiment of the tests is like."""

    overrides: Mapping[str, Any] = field(default_factory=dict)
    n_cases: int = 6
    failed: int = 1
    best_epochs: tuple[int, int] = (4, 8)
    shift: float = 0.0
    # Parameters of the runs, as they are in each fold.
    params: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unfinished: int = 0


def run_columns(run: RunKey) -> dict[str, object]:
    return {"experiment": "demo", **vars(run)}


def case_rows(recipe: Recipe, run: RunKey, case: str, failed: bool) -> list[dict[str, object]]:
    random = seeding.generator(0, "paper-tests", str(run), case)
    dice = recipe.shift + 0.55 + 0.3 * float(random.random())
    rows: list[dict[str, object]] = []
    for metric, definition in METRICS.items():
        good = dice if definition.better == "higher" else 10 * (1 - dice)
        bad = 0.0 if definition.better == "higher" else 170.0
        rows.append(
            {
                **run_columns(run),
                "case": case,
                "metric": metric,
                "value": bad if failed else good,
                "unit": definition.unit,
                "status": "empty_prediction" if failed else "ok",
            }
        )
    return rows


def uncertainty_tables(runs: list[RunKey], recipe: Recipe) -> dict[str, pl.DataFrame]:
    """Scores of two calibrators, bins, and conformal rows of which one alpha is out of reach."""
    rows: dict[str, list[dict[str, object]]] = {"calibration": [], "reliability": []}
    conformal: list[dict[str, object]] = []
    for run in runs:
        for index in range(run.fold, recipe.n_cases, 2):
            named = {**run_columns(run), "case": f"phantom_{index + 1:03d}"}
            for calibrator, nll in (("none", 0.5), ("isotonic", 0.25)):
                scores = {"nll": nll, "brier": 0.1, "ece": 0.05, "fitted_on": "other"}
                rows["calibration"].append({**named, "calibrator": calibrator, **scores})
                place = {"bin": 0, "n_voxels": 9, "probability": 0.5, "observed": 0.4}
                rows["reliability"].append({**named, "calibrator": calibrator, **place})
            for alpha, status in ((0.1, "too_few_cases"), (0.5, "ok")):
                about = {"alpha": alpha, "status": status, "n_calibration": 1, "n_needed": 1}
                held = {"level": 2.0, "wrong_part": 0.125, "covered": index % 3 > 0, "size": 0.1}
                if status != "ok":
                    held = dict.fromkeys(held)  # type: ignore[assignment]
                for method in ("threshold", "outer_margin", "inner_margin"):
                    own = {**named, **about, **held, "method": method, "calibrated_on": "other"}
                    conformal.append(own)
    made = {name: tables.from_rows(name, values) for name, values in rows.items()}
    table = tables.from_rows("conformal", conformal)
    return {**made, "coverage": coverage_table(table, StatisticsConfig(bootstrap_resamples=49))}


def qualitative_case(case: str, arms: Arms) -> QualitativeCase:
    reference = np.zeros((24, 16), dtype=bool)
    reference[4:20, 6:9] = True
    moved = {arm: np.roll(reference, 1, axis=1) for arm in arms}
    image = reference + np.linspace(0, 1, 24)[:, np.newaxis]
    return QualitativeCase(case, image, reference, moved, (1.0, 1.0), seed=0)


def make_experiment(root: Path, recipe: Recipe) -> FigureInputs:
    """Write config, tables and summary of an experiment as its steps do; what its figures show."""
    fast = {"bootstrap_resamples": 49, "permutation_resamples": 49}
    config = resolve(
        "demo", {"statistics": fast, **recipe.overrides}, PROJECT / "configs/experiment"
    )
    write_step_files(config, root / "config")
    arms: Arms = tuple((model, loss) for model in config.models for loss in config.losses)
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("cases", "runs", "params", "history", "baseline")
    }
    runs = [RunKey(*arm, seed, fold) for arm in arms for seed in config.seeds for fold in range(2)]
    for number, run in enumerate(runs):
        columns = run_columns(run)
        digest = {"run_digest": f"{number:064x}", "config_digest": "c" * 64}
        best = {"best_epoch": recipe.best_epochs[run.fold], "best_selection_dice": 0.5}
        state: dict[str, object] = {"status": "FINISHED", "epochs": 12, **digest, **best}
        if number < recipe.unfinished:
            state |= {"status": "KILLED", "epochs": 0, "best_epoch": 0}
        rows["runs"].append({**columns, **state})
        for name, values in recipe.params.items():
            rows["params"].append({**columns, "name": name, "value": values[run.fold]})
        for name in ("arch_kernels", "arch_strides"):
            rows["params"].append({**columns, "name": name, "value": "3x3x1 3x3x3"})
        for name in ("train/loss", "selection/dice"):
            rows["history"] += [
                {**columns, "epoch": e, "name": name, "value": 1 / (e + run.fold)}
                for e in (1, 2, 3)
            ]
        for index in range(run.fold, recipe.n_cases, 2):
            failed = (run.model, run.loss) == arms[0] and index < recipe.failed
            rows["cases"] += case_rows(recipe, run, f"phantom_{index + 1:03d}", failed)
    rows["baseline"] = [
        {"case": f"phantom_{index + 1:03d}", "threshold": 0.5, "dice": 0.4321 + recipe.shift}
        for index in range(recipe.n_cases)
    ]
    made = {name: tables.from_rows(name, values) for name, values in rows.items()}
    made["ensembles"] = tables.empty("ensembles")
    made |= uncertainty_tables(runs, recipe)
    made["summary"] = summarise(made["cases"], config.statistics)
    made["ranks"] = rank_arms(made["cases"], config.statistics)
    made["mixed_model"] = mixed_model(made["cases"], config.statistics)
    made["seeds"] = seed_spread(made["cases"], config.statistics)
    made["power"] = detectable(made["cases"], config.statistics)
    made["comparison"] = compare(made["cases"], config.statistics)
    _, chosen = champion.choose_all(made["cases"], config.statistics, arms)
    made["champions"] = champion.champions_table(
        [champion.as_record(one, RunKey(*one.arm, 0, 0), "0" * 64) for one in chosen.values()]
    )
    for name, table in made.items():
        output.write_parquet(table, paths.table(root, name))
    numbers = summary_json(
        made["cases"],
        made["summary"],
        made["comparison"],
        made["baseline"],
        config.statistics,
        arms,
    )
    output.write_json(numbers, paths.summary(root))
    shown = qualitative_cases(made["cases"], config.statistics.primary_metric, arms[0])
    slices = tuple(qualitative_case(case, arms) for case in shown)
    return FigureInputs(made, config.statistics, arms, slices)


def draw_figures(root: Path, inputs: FigureInputs) -> None:
    for name in FIGURES:
        base = paths.figure(root, name, "svg").with_suffix("")
        make_figure(name, inputs, FigureConfig(), base, [])


def read_inline(client: Any, expressions: list[str]) -> list[str]:
    """What inline expressions show, as Markdown.

    Quarto puts the plain form of other values into the text, a string with its quotes: an
    expression without a Markdown form fails here.
    """
    wanted = {str(index): code for index, code in enumerate(expressions)}
    message = client.kc.execute("", user_expressions=wanted)
    replies = client.wait_for_reply(message)["content"]["user_expressions"]
    shown = []
    for index, code in wanted.items():
        reply = replies[index]
        assert reply["status"] == "ok", f"{code}: {reply.get('ename')}: {reply.get('evalue')}"
        assert "text/markdown" in reply["data"], f"{code} has no Markdown form"
        shown.append(str(reply["data"]["text/markdown"]))
    return shown


def fill_in(client: Any, text: str) -> str:
    shown = iter(read_inline(client, [match["code"] for match in INLINE.finditer(text)]))
    return INLINE.sub(lambda match: match["before"] + next(shown), text)


def cell_output(cell: Any) -> str:
    """What a cell shows: Markdown of its outputs; nothing where it says `include: false`."""
    if "#| include: false" in cell.source:
        return ""
    texts = []
    for item in cell.outputs:
        assert item.output_type in ("execute_result", "display_data"), item
        texts.append(str(item.data["text/markdown"]))
    return "\n\n".join(texts)


def execute(manuscript: Path) -> str:
    """The text of a manuscript with every cell and inline expression executed.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient

    pieces = CHUNK.split(manuscript.read_text(encoding="utf-8"))
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    for index, piece in enumerate(pieces):
        new: Any = nbformat.v4.new_code_cell if index % 2 else nbformat.v4.new_markdown_cell
        notebook.cells.append(new(piece))
    specs = KernelSpecManager(kernel_dirs=[], ensure_native_kernel=True)
    kernel = KernelManager(kernel_name="python3", kernel_spec_manager=specs)
    assert kernel.kernel_spec is not None
    # This interpreter, whatever kernels the machine has.
    kernel.kernel_spec.argv[:] = [
        sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}",
    ]  # fmt: skip
    client = NotebookClient(
        notebook,
        km=kernel,
        timeout=120,
        resources={"metadata": {"path": str(manuscript.parent)}},
    )
    parts = []
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "markdown":
                parts.append(fill_in(client, cell.source))
            else:
                client.execute_cell(cell, index)
                parts.append(cell_output(cell))
    return "".join(parts)


@pytest.fixture(scope="session")
def experiment_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes an experiment of a recipe; figures, which are slow, are drawn once for all."""
    drawn = tmp_path_factory.mktemp("results") / "demo"
    draw_figures(drawn, make_experiment(drawn, Recipe()))

    def make(**recipe: Any) -> Path:
        root = tmp_path_factory.mktemp("results") / "demo"
        make_experiment(root, Recipe(**recipe))
        shutil.copytree(drawn / "figures", root / "figures")
        return root

    return make


@pytest.fixture(scope="session")
def root(experiment_of: Callable[..., Path]) -> Path:
    """An experiment of four losses and two seeds, with a case that failed."""
    losses = ["cbdice", "cbdice_cldice", "dice_ce", "dice_ce_cldice"]
    return experiment_of(overrides={"losses": losses, "seeds": [0, 1]})


@pytest.fixture(scope="session")
def read_dashboard(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Path], str]:
    """Executes a copy of the dashboard on an experiment; what came out."""

    def read(root: Path) -> str:
        folder = tmp_path_factory.mktemp("dashboard")
        shutil.copyfile(MANUSCRIPT / "dashboard.qmd", folder / "dashboard.qmd")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MINIVESS_RESULTS", str(root))
            return execute(folder / "dashboard.qmd")

    return read


@pytest.fixture(scope="session")
def read_manuscript(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Executes a copy of the manuscript on an experiment; the folder of what came out."""
    done: dict[Path, Path] = {}

    def read(root: Path) -> Path:
        if root in done:
            return done[root]
        folder = tmp_path_factory.mktemp("paper")
        for name in ("index.qmd", "_quarto.yml", "references.bib"):
            shutil.copyfile(MANUSCRIPT / name, folder / name)
        shutil.copyfile(PROJECT / "uv.lock", folder / "uv.lock")
        before = os.environ.get("MINIVESS_RESULTS")
        os.environ["MINIVESS_RESULTS"] = str(root)
        try:
            text = execute(folder / "index.qmd")
        finally:
            os.environ.pop("MINIVESS_RESULTS")
            if before is not None:
                os.environ["MINIVESS_RESULTS"] = before
        (folder / "index.qmd").write_text(text, encoding="utf-8")
        done[root] = folder
        return folder

    return read


@pytest.fixture(scope="session")
def manuscript() -> Path:
    return MANUSCRIPT
