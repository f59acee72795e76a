"""The manuscript executed on a finished experiment: its numbers are the tables' numbers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from minivess import output, paths, provenance
from minivess.config.augment import AugmentConfig
from minivess.config.calibration import CalibrationConfig
from minivess.config.ensembles import EnsembleKind
from minivess.config.plan import AnalysisPlan
from minivess.config.schema import ComputeConfig, DataConfig, PreprocessConfig
from minivess.config.training import TrainingConfig
from minivess.figures import FIGURES
from minivess.losses import LOSSES
from minivess.metrics import METRICS
from minivess.models import ADAPTERS
from minivess.statistics.summary import MAIN_METRICS, number, p_number
from minivess.types import RunKey

PLANS = Path(__file__).parents[2] / "configs" / "analysis"

type Experiments = Callable[..., Path]
type Reader = Callable[[Path], Path]


@pytest.fixture(scope="session")
def text(root: Path, read_manuscript: Reader) -> str:
    return (read_manuscript(root) / "index.qmd").read_text(encoding="utf-8")


def numbers_of(root: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(paths.summary(root).read_text(encoding="utf-8"))
    return value


def section(text: str, title: str) -> str:
    return text.split(f"# {title}")[1].split("\n# ", maxsplit=1)[0]


def table_rows(text: str, label: str) -> list[list[str]]:
    """Cells of the table in a float, its header first."""
    block = text.split(f"::: {{#{label}}}")[1].split("\n:::", maxsplit=1)[0]
    lines = [line for line in block.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if " | " in line
    ]


def test_nothing_is_left_to_execute(text: str) -> None:
    assert "{python}" not in text
    assert "<IPython" not in text


def test_main_table_is_summary_json(root: Path, text: str) -> None:
    _, *rows = table_rows(text, "tbl-main")
    arms = numbers_of(root)["arms"]
    assert [row[0] for row in rows] == [f"`{arm['loss']}`" for arm in arms]
    for arm, row in zip(arms, rows, strict=True):
        for metric, cell in zip(MAIN_METRICS, row[1:], strict=True):
            value = arm["metrics"][metric]
            low, high = number(value["ci_low"]), number(value["ci_high"])
            assert cell == f"{number(value['mean'])} ({low}, {high})"


def test_every_metric_is_in_a_table(text: str) -> None:
    assert len(table_rows(text, "tbl-definitions")) == 1 + len(METRICS)
    further = [row[0] for row in table_rows(text, "tbl-further")[1:]]
    shown = table_rows(text, "tbl-main")[0][1:] + further
    labels = [re.sub(r" \(µm³?\)| [↑↓]", "", title) for title in shown]
    assert sorted(labels) == sorted(definition.label for definition in METRICS.values())


def test_comparison_table_is_the_table_comparison(root: Path, text: str) -> None:
    _, *rows = table_rows(text, "tbl-comparison")
    table = pl.read_parquet(paths.table(root, "comparison"))
    main = table.filter(pl.col("metric").is_in(MAIN_METRICS))
    assert len(rows) == main.height
    first = table.filter(pl.col("metric") == "dice").row(0, named=True)
    assert [row[0] for row in rows][::6] == ["Dice", "clDice", "NSD", "MASD (µm)", "HD95 (µm)"]
    assert rows[0][1] == f"`{first['loss_a']}` − `{first['loss_b']}`"
    assert rows[0][2].startswith(f"{first['difference']:+.3f}".replace("-", "−"))
    assert rows[0][4:] == [p_number(first["p_value"]), p_number(first["p_adjusted"])]


def test_effects_table_is_the_table_comparison(root: Path, text: str) -> None:
    header, *rows = table_rows(text, "tbl-effects")
    table = pl.read_parquet(paths.table(root, "comparison"))
    assert len(rows) == table.height == 5 * 6
    assert header[-1] == "below / ROPE / above"
    for metric, shown in (("dice", rows[0]), ("masd_um", rows[18])):
        first = table.filter(pl.col("metric") == metric).row(0, named=True)
        dz = f"{number(first['dz_low'])}, {number(first['dz_high'])})".replace("-", "−")
        assert shown[2].endswith(dz)
        assert shown[3].startswith(f"{first['rank_biserial']:+.3f}".replace("-", "−"))
        assert shown[4] == p_number(first["p_wilcoxon"])
        inside = "no ROPE" if first["p_rope"] is None else number(first["p_rope"])
        assert inside in shown[5]


def test_ranks_and_power_are_their_tables(root: Path, text: str) -> None:
    _, *rows = table_rows(text, "tbl-ranks")
    table = pl.read_parquet(paths.table(root, "ranks"))
    assert len(rows) == table.height == 5 * 4
    first = table.filter(metric="dice").sort("rank").row(0, named=True)
    assert rows[0][:2] == ["Dice", f"`{first['loss']}`"]
    assert rows[0][2] == f"{first['rank']} ({first['rank_low']} to {first['rank_high']})"
    mean_rank = f"{first['mean_rank']:.2f}"
    tau = f"{first['tau']:.2f} ({first['tau_low']:.2f})"
    assert rows[0][3:6] == [number(first["first"]), tau, mean_rank]
    assert rows[0][7] == p_number(first["friedman_p"])
    _, *rows = table_rows(text, "tbl-power")
    table = pl.read_parquet(paths.table(root, "power"))
    assert len(rows) == table.height == 5 * 6
    pair = table.filter(metric="dice").row(0, named=True)
    assert rows[0][1] == f"`{pair['loss_a']}` − `{pair['loss_b']}`"
    values = [number(pair[name]) for name in ("sd_difference", "least_dz", "least_difference")]
    assert rows[0][2:] == [str(pair["n_cases"]), f"{pair['alpha']:.3g}", *values]


def test_seeds_are_their_table(root: Path, text: str) -> None:
    _, *rows = table_rows(text, "tbl-seeds")
    table = pl.read_parquet(paths.table(root, "seeds"))
    assert len(rows) == 5 * 4
    first = table.filter(metric="dice").row(0, named=True)
    (shown,) = [row for row in rows if row[:2] == ["Dice", f"`{first['loss']}`"]]
    assert shown[2:4] == ["0, 1", number(first["mean"])]
    assert shown[4].startswith(f"{first['sd_mean']:.2g} (")
    assert shown[7] == f"{first['seed_part']:.0%}"


def test_mixed_model_is_its_table(root: Path, text: str) -> None:
    _, *rows = table_rows(text, "tbl-mixed-model")
    table = pl.read_parquet(paths.table(root, "mixed_model"))
    effects = table.filter(pl.col("term") != "intercept")
    assert len(rows) == effects.height == 5 * 3
    first = effects.filter(metric="dice").row(0, named=True)
    assert rows[0][:2] == ["Dice", f"loss `{first['level']}`"]
    assert rows[0][2].startswith(f"{first['estimate']:+.3f}".replace("-", "−"))
    assert rows[0][3:] == [p_number(first["p_value"]), p_number(first["p_term"])]
    _, *rows = table_rows(text, "tbl-components")
    assert len(rows) == 5
    assert rows[0][1] == f"`{first['reference']}`"
    assert rows[0][5] == "24 of 6 cases in 2 folds"


def test_the_analysis_file_is_named_with_its_digest(text: str) -> None:
    digest = provenance.file_sha256(PLANS / "default.yaml")
    assert f"analysis file `default`, whose SHA-256 is `{digest}`" in section(text, "Methods")


def test_champion_table_is_the_table_champions(root: Path, text: str) -> None:
    _, *rows = table_rows(text, "tbl-champions")
    table = pl.read_parquet(paths.table(root, "champions")).to_dicts()
    assert [row[0] for row in rows] == [one["kind"] for one in table]
    for row, one in zip(rows, table, strict=True):
        assert row[2] == f"`{one['loss']}`"
        assert row[3] == number(one["score"])
        assert row[6] == f"{one['cases_won']} / {one['cases_lost']}"


def test_failed_cases_are_counted(root: Path, text: str) -> None:
    failed = numbers_of(root)["arms"][0]["n_not_ok"]
    assert failed == 2
    assert f"In {failed} of 48 predictions" in section(text, "Results")
    assert "few such cases can dominate" in section(text, "Limits")
    row = table_rows(text, "tbl-status")[1]
    assert row[1:] == ["12", "10", "2", "0", "0"]


def test_runs_and_digests(root: Path, text: str) -> None:
    runs = pl.read_parquet(paths.table(root, "runs"))
    rows = table_rows(text, "tbl-runs")[1:]
    assert [row[5].strip("`") for row in rows] == [d[:16] for d in runs["run_digest"]]
    assert len(re.findall(r"`[0-9a-f]{64}`", section(text, "Reproducibility"))) == 2


def test_every_figure_is_shown_with_its_caption_and_referred_to(root: Path, text: str) -> None:
    for name, definition in FIGURES.items():
        label = "fig-" + name.replace("_", "-")
        block = text.split(f"::: {{#{label}}}")[1].split("\n:::", maxsplit=1)[0]
        path = re.search(r"!\[\]\(([^)]+)\)", block)
        assert path is not None
        assert Path(path[1]).name == f"{name}.svg"
        assert block.strip().endswith(definition.caption)
        assert f"@{label}" in text


def test_every_loss_and_no_other_is_described(
    text: str, experiment_of: Callable[..., Path], read_manuscript: Reader
) -> None:
    four = ["cbdice", "cbdice_cldice", "dice_ce", "dice_ce_cldice"]
    all_of_them = experiment_of(overrides={"losses": sorted(LOSSES)})
    whole = (read_manuscript(all_of_them) / "index.qmd").read_text(encoding="utf-8")
    for manuscript, losses in ((whole, sorted(LOSSES)), (text, four)):
        methods = section(manuscript, "Methods")
        assert re.findall(r"^- `(\w+)`: \$", methods, re.MULTILINE) == losses
        # Each symbol that a formula uses is explained above the list.
        terms, _, formulas = methods.partition("The losses compared are")
        for symbol in set(re.findall(r"\\mathcal\{L\}_\\mathrm\{\w+\}", formulas)):
            assert symbol in terms, symbol


def test_a_changed_table_changes_the_text(
    root: Path, text: str, read_manuscript: Reader, tmp_path: Path
) -> None:
    changed = tmp_path / "demo"
    shutil.copytree(root, changed)
    numbers = numbers_of(root)
    best = max(numbers["arms"], key=lambda arm: arm["metrics"]["dice"]["mean"])
    old = number(best["metrics"]["dice"]["mean"])
    best["metrics"]["dice"]["mean"] = 0.91357
    output.write_json(numbers, paths.summary(changed))
    comparison = pl.read_parquet(paths.table(root, "comparison"))
    output.write_parquet(
        comparison.with_columns(p_adjusted=pl.lit(0.0123)), paths.table(changed, "comparison")
    )
    other = (read_manuscript(changed) / "index.qmd").read_text(encoding="utf-8")
    for title in ("Abstract", "Results"):
        assert f": {old} (" in section(text, title)
        assert ": 0.914 (" in section(other, title)
        assert "6 had a corrected" in section(other, title)
        assert "6 had a corrected" not in section(text, title)
    assert {row[5] for row in table_rows(other, "tbl-comparison")[1:]} == {"0.0123"}


def test_two_arms_that_train_to_the_end(
    experiment_of: Experiments, read_manuscript: Reader
) -> None:
    """The one pair is told in full, and so is that the last epoch was the best."""
    augment = {f"{name}_probability": 0.25 for name in ("blur", "low_resolution", "brightness")}
    augment |= {"contrast_probability": 0.5, "gamma_probability": 0.4}
    gamma = {"gamma_method": "range", "gamma_invert_probability": 0.25}
    root = experiment_of(best_epochs=(4, 12), overrides={"augment": {**augment, **gamma}})
    text = (read_manuscript(root) / "index.qmd").read_text(encoding="utf-8")
    table = pl.read_parquet(paths.table(root, "comparison"))
    [pair] = table.filter(pl.col("metric") == "dice").to_dicts()
    difference = f"{pair['difference']:+.3f}".replace("-", "−")
    arms = f"`{pair['loss_a']}` minus that of `{pair['loss_b']}`"
    assert f"Dice of {arms} was {difference} (" in section(text, "Abstract")
    assert f"), *p* {p_number(pair['p_adjusted'])}." in section(text, "Results")
    assert "In 2 of 4 runs the last epoch" in section(text, "Limits")
    methods = section(text, "Methods")
    assert "The training seed was 0." in methods
    for change in (
        "in-plane Gaussian blur of standard deviation up to 1 µm (probability 0.25)",
        "in-plane sampling up to 2 times coarser, interpolated linearly (probability 0.25)",
        "intensities times 1 ± 0.25 (probability 0.25)",
        "contrast times 1 ± 0.25 about the patch's mean, within its range (probability 0.5)",
        "of the patch scaled to its range, with its mean and standard deviation kept",
        "(probability 0.4, a share of 0.25 of them on the inverted image)",
    ):
        assert change in methods


def test_one_arm_on_real_data(experiment_of: Experiments, read_manuscript: Reader) -> None:
    """No comparison, no failed case, no phantom: the text says so and nothing dangles."""
    overrides = {
        "losses": ["dice_ce"],
        "data": {"source": "minivess", "path": "data/minivess", "exclude": ["mv39"]},
        "augment": dict.fromkeys(
            ("flip_probability", "noise_probability", "gamma_probability"), 0.0
        ),
        "folds": {"test_cases": ["mv01"]},
    }
    folder = read_manuscript(experiment_of(overrides=overrides, failed=0))
    text = (folder / "index.qmd").read_text(encoding="utf-8")
    assert "nothing to compare it with" in section(text, "Results")
    for label in ("tbl-comparison", "tbl-effects", "tbl-power"):
        assert table_rows(text, label)[1][:2] == ["none", "the experiment has one arm"]
    assert "| none | ranks need two arms" in text
    assert table_rows(text, "tbl-mixed-model")[1][1:3] == ["too few arms or cases", "none"]
    assert "synthetic" not in text
    assert "@poon2023" in section(text, "Data")
    assert "Cases left out by name: 1." in section(text, "Data")
    assert "A test set of 1 case was kept apart" in section(text, "Data")
    assert "The test set of 1 case is locked: nothing has opened its labels." in text
    assert table_rows(text, "tbl-unseen")[1][0] == "none"
    assert "Patches were not augmented." in text
    assert "No mask was empty in 6 predictions" in section(text, "Results")
    assert "trained with one seed" in section(text, "Limits")
    assert all(row[4:] == ["one seed", "", "", ""] for row in table_rows(text, "tbl-seeds")[1:])


def test_results_on_other_cases_are_told(
    root: Path, read_manuscript: Reader, tmp_path: Path
) -> None:
    changed = tmp_path / "demo"
    shutil.copytree(root, changed)
    config = paths.step_config(changed, "experiment")
    resolved = yaml.safe_load(config.read_text(encoding="utf-8"))
    resolved["folds"]["test_cases"] = ["t1", "t2"]
    outside = {**resolved["data"], "source": "csv", "path": "x.csv"}
    resolved["external"] = {"octa": outside, "later": outside}
    config.write_text(yaml.safe_dump(resolved), encoding="utf-8")
    row = {"unit": "1", "mean": 0.625, "ci_low": 0.5, "ci_high": 0.75, "n_cases": 2, "n_not_ok": 0}
    chosen = pl.read_parquet(paths.table(changed, "champions")).row(
        by_predicate=pl.col("kind") == "balanced", named=True
    )
    runs = [RunKey("dynunet", chosen["loss"], seed, fold) for seed in (0, 1) for fold in (0, 1)]
    for run in runs:
        record = {"weights_sha256": f"of {run}"}
        output.write_json(record, paths.run_record(paths.run_folder(changed, run)))
    networks = {str(run): f"of {run}" for run in runs}
    about = {"model": "net", "loss": "dice_ce", "n_cases": 2, "networks": networks}
    about["metrics"] = {kind: dict.fromkeys(METRICS, row) for kind in ("mean", "vote")}
    tested = {**about, "set": "test", "analysis": "ab" * 32}
    output.write_json(tested, paths.set_result(paths.test_folder(changed, tested["analysis"])))
    octa = {**about, "set": "octa", "warnings": ["one laboratory"]}
    output.write_json(octa, paths.set_result(paths.external_folder(changed, "octa")))
    for folder, own in (
        (paths.test_folder(changed, tested["analysis"]), resolved["data"]),
        (paths.external_folder(changed, "octa"), outside),
    ):
        kept = yaml.safe_dump({**resolved, "data": own})
        output.write_text(kept, paths.step_config(folder, "experiment"))
    text = (read_manuscript(changed) / "index.qmd").read_text(encoding="utf-8")
    assert "The test set of 2 cases was evaluated in one analysis (`abababababababab`)" in text
    assert "The external set `octa` has 2 cases. Its warnings: one laboratory." in text
    assert "The external set `later` has not been evaluated." in text
    _, *rows = table_rows(text, "tbl-unseen")
    assert [cells[:3] for cells in rows] == [
        [name, f"`net/dice_ce`, {kind} of 4", "2"]
        for name in ("test `abababab`", "octa")
        for kind in ("mean", "vote")
    ]
    assert rows[0][3] == "0.625 (0.500, 0.750)"


def methods_of(root: Path, read_manuscript: Reader) -> tuple[str, str]:
    """The manuscript, and its methods with single spaces."""
    text = (read_manuscript(root) / "index.qmd").read_text(encoding="utf-8")
    return text, " ".join(section(text, "Methods").split())


def test_methods_are_those_of_the_config(
    experiment_of: Experiments, read_manuscript: Reader
) -> None:
    root = experiment_of(
        overrides={
            "training": {
                "epochs": 40,
                "optimizer": "sgd",
                "momentum": 0.9,
                "schedule": "polynomial",
                "warmup_fraction": 0.0,
                "accumulate": 3,
                "ema_decay": 0.99,
                "patience": 2,
                "selection_metrics": ["cldice", "dice"],
                "selection_every": 1,
                "stopping_metric": "masd_um",
                "warm_start": "old/fold{fold}.safetensors",
            },
            "patches": {"patch_size": "auto", "batch_size": "auto"},
            "folds": {"folds_file": "ours.json"},
            "calibration": {"methods": ["isotonic"]},
        },
        params={
            "data_patch_size": ("128 128 16", "64 64 16"),
            "data_batch_size": ("2", "1"),
            "out_of_memory": ("batch_size=2 accumulate=6", "batch_size=1 accumulate=12"),
            "data_pad_thin": ("false", "true"),
        },
        unfinished=1,
    )
    config = paths.step_config(root, "experiment")
    resolved = yaml.safe_load(config.read_text(encoding="utf-8"))
    resolved["statistics"]["plan"]["resampling"] = "groups_within_folds"
    config.write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")
    text, methods = methods_of(root, read_manuscript)
    told = (
        "patches of 64 × 64 × 16 or 128 × 128 × 16 voxels, ",
        " per epoch in batches of 1 or 2; ",
        "the mean gradient of 12 batches of 1 or 6 batches of 2.",
        "A rule chose the patch size and batch size of each network and fold",
        "Volumes thinner than a patch were mirrored up to it.",
        "at most 40 epochs of stochastic gradient descent with Nesterov momentum",
        " [@sutskever2013] of 0.9 and weight decay",
        "a learning rate that begins at",
        "then falls to zero with the part of the steps that is left to the power of 0.9",
        "the mean gradient of up to 3 batches",
        "exponential moving average of the weights, with a decay of 0.99 per step",
        "with the weights in `old/fold{fold}.safetensors` wherever a tensor has the same name",
        "by its mean clDice every epoch; what",
        "what was selected is of epoch 4 to 8.",
        "after 2 evaluations without a better mean MASD; trainings took 12 epochs.",
        "in windows of 64 × 64 × 16 or 128 × 128 × 16 voxels that overlap",
    )
    assert [sentence for sentence in told if sentence not in methods] == []
    untrue = ("AdamW", "as a cosine", "mean Dice", "of auto", "a × u × t × o")
    assert [words for words in untrue if words in methods] == []
    data = " ".join(section(text, "Data").split())
    assert "folds were made elsewhere and read from `ours.json`, and they were fixed" in data
    assert "stratified" not in data
    assert "(@tbl-calibration, @fig-reliability): by an isotonic map\\ [@zadrozny2002]." in text
    limits = section(text, "Limits")
    assert "Checkpoints were selected by clDice" in limits
    assert "tests take groups of cases as independent." in limits


def test_weights_that_are_averaged_and_their_learning_rate(
    experiment_of: Experiments, read_manuscript: Reader
) -> None:
    training = {"epochs": 12, "schedule": "constant", "swa_start": 9, "swag_rank": 2}
    kinds = {"kinds": ["swa", "swag"], "swag_samples": 5}
    model = {"dynunet": {"dropout": 0.3}}
    root = experiment_of(overrides={"training": training, "ensembles": kinds, "models": model})
    _, methods = methods_of(root, read_manuscript)
    assert "12 epochs of AdamW" in methods
    assert "of the steps and then stays there, and gradients clipped" in methods
    assert "From epoch 9 on the learning rate was 0.0005 instead" in methods
    assert "cosine" not in methods
    assert "- `swag`: the mean of 5 networks drawn" in methods
    results = section((read_manuscript(root) / "index.qmd").read_text(encoding="utf-8"), "Results")
    assert "names the best trained arm (ensembles are no candidates) by three rules" in results
    assert "@fig-loss-comparison those of the trained ones,\n@tbl-further" in results
    assert "shows\nDice of the trained arms case by case" in results
    assert "Dropout of 0.3 follows each convolution." in methods


def test_without_ensembles_all_arms_are_candidates_and_drawn(text: str) -> None:
    results = section(text, "Results")
    assert "@tbl-champions names the best arm by three rules" in results
    assert "@tbl-main and @fig-loss-comparison show the main metrics of all arms,\n" in results
    assert "shows\nDice case by case" in results


def test_snapshots_have_cycles(experiment_of: Experiments, read_manuscript: Reader) -> None:
    training = {"epochs": 12, "snapshot_cycles": 3, "warmup_fraction": 0.25}
    root = experiment_of(
        overrides={"training": training, "ensembles": {"kinds": ["snapshot"]}},
    )
    _, methods = methods_of(root, read_manuscript)
    assert "to zero in each of 3 equal cycles [@huang2017], at whose ends weights" in methods
    assert "rises linearly" not in methods


def test_lower_is_better(
    experiment_of: Experiments, read_manuscript: Reader, tmp_path: Path
) -> None:
    plan = (PLANS / "default.yaml").read_text(encoding="utf-8")
    plan = plan.replace("primary_metric: dice", "primary_metric: masd_um")
    (tmp_path / "masd.yaml").write_text(plan.replace("masd_um, hd", "dice, hd"), encoding="utf-8")
    overrides = {
        "statistics": {
            "plan": str(tmp_path / "masd.yaml"),
            "bootstrap_resamples": 49,
            "permutation_resamples": 49,
        },
        "models": {"a": {}, "b": {"deep_supervision": True}},
        "folds": {"selection_fraction": 0},
    }
    root = experiment_of(overrides=overrides, failed=0)
    text = (read_manuscript(root) / "index.qmd").read_text(encoding="utf-8")
    best = min(numbers_of(root)["arms"], key=lambda arm: arm["metrics"]["masd_um"]["mean"])
    shown = number(best["metrics"]["masd_um"]["mean"])
    name = f"`{best['model']} / {best['loss']}`"
    assert f"The lowest mean MASD was that of {name}: {shown}\u00a0µm (" in text
    assert table_rows(text, "tbl-comparison")[1][0] == "MASD (µm)"
    # And what it says without selection cases.
    assert "none was kept for selecting a checkpoint" in section(text, "Methods")
    assert "No case was kept for selection, so no probability was calibrated" in text
    limits = section(text, "Limits")
    assert "The weights of the last epoch were taken" in limits
    assert "selected" not in text
    assert "of the selection cases" not in text


def names_of(manuscript: Path, variable: str) -> set[str]:
    """Keys of a dictionary of texts in a cell of the manuscript."""
    source = manuscript.joinpath("index.qmd").read_text(encoding="utf-8")
    body = source.split(f"\n{variable} = {{\n")[1].split("\n}\n")[0]
    return set(re.findall(r'^    "(\w+)": ', f"{body}\n", re.MULTILINE))


def test_every_choice_of_the_config_has_a_text(manuscript: Path) -> None:
    kinds = (
        DataConfig.model_fields["source"].annotation,
        PreprocessConfig.model_fields["normalisation"].annotation,
    )
    config_choices = (
        ("OPTIMIZERS", TrainingConfig, "optimizer"),
        ("SCHEDULES", TrainingConfig, "schedule"),
        ("PRECISION", ComputeConfig, "profile"),
        ("GAMMAS", AugmentConfig, "gamma_method"),
    )
    for variable, section_of, key in config_choices:
        choice: Any = section_of.model_fields[key].annotation
        assert names_of(manuscript, variable) == set(choice.__args__), variable
    methods: Any = CalibrationConfig.model_fields["methods"].annotation
    assert names_of(manuscript, "CALIBRATED") == set(methods.__args__[0].__args__)
    assert names_of(manuscript, "ENSEMBLES") == set(EnsembleKind.__args__)
    sources, normalisations = (set(kind.__args__) for kind in kinds)  # type: ignore[union-attr]
    assert names_of(manuscript, "SOURCES") == sources
    assert names_of(manuscript, "NORMALISATIONS") == normalisations
    for variable, key in (
        ("RESAMPLING", "resampling"),
        ("FLIPPED", "resampling"),
        ("INDEPENDENT", "resampling"),
        ("SIDES", "alternative"),
        ("CORRECTION", "correction"),
    ):
        choices: Any = AnalysisPlan.model_fields[key].annotation
        assert names_of(manuscript, variable) == set(choices.__args__)
    assert names_of(manuscript, "LOSSES") == set(LOSSES)
    source = manuscript.joinpath("index.qmd").read_text(encoding="utf-8")
    assert all(f'"{name}": {name}' in source for name in ADAPTERS)


def test_a_missing_table_is_a_clear_error(
    root: Path, read_manuscript: Reader, tmp_path: Path
) -> None:
    from nbclient.exceptions import CellExecutionError

    incomplete = tmp_path / "demo"
    shutil.copytree(root, incomplete)
    paths.table(incomplete, "comparison").unlink()
    with pytest.raises(CellExecutionError) as caught:
        read_manuscript(incomplete)
    assert "MV-STATE-002" in str(caught.value)
    assert "tables/comparison.parquet" in str(caught.value)


def test_an_undescribed_loss_is_a_clear_error(
    root: Path, read_manuscript: Reader, tmp_path: Path
) -> None:
    from nbclient.exceptions import CellExecutionError

    other = tmp_path / "demo"
    shutil.copytree(root, other)
    config = paths.step_config(other, "experiment")
    config.write_text(config.read_text(encoding="utf-8").replace("- cbdice\n", "- mine\n"))
    with pytest.raises(CellExecutionError, match="does not describe the loss mine"):
        read_manuscript(other)
