"""Where each result lives: the only home of file names under `results/<experiment>/`."""

from __future__ import annotations

from pathlib import Path

from minivess.types import RunKey

RESULTS = Path("results")


def experiment_folder(experiment: str) -> Path:
    """Folder of everything the DAG makes for one experiment.

    >>> experiment_folder("demo").as_posix()
    'results/demo'
    """
    return RESULTS / experiment


def step_config(root: Path, step: str) -> Path:
    """The resolved config of one step: an input of its rule."""
    return root / "config" / f"{step}.yaml"


def phantom_folder(root: Path) -> Path:
    """The phantom's volumes: images/, labels/, cases.csv."""
    return root / "data" / "phantom"


def unpacked_folder(root: Path) -> Path:
    """Volumes unpacked from a ZIP source."""
    return root / "data" / "unpacked"


def manifest(root: Path) -> Path:
    """The Pandera-checked table of all cases."""
    return root / "data" / "manifest.parquet"


def validation_table(root: Path) -> Path:
    """All problems of all cases."""
    return root / "data" / "validation.parquet"


def validation_page(root: Path) -> Path:
    """The validation as a page with a picture of each case."""
    return root / "data" / "validation.html"


def validation_accepted(root: Path) -> Path:
    """Written only when validation found no error: what later steps depend on."""
    return root / "data" / "accepted.json"


def preprocessed_case(root: Path, case: str) -> Path:
    """Folder of image.npy, label.npy, foreground.npy, case.json of one case."""
    return root / "data" / "preprocessed" / case


def label_skeleton(root: Path, case: str) -> Path:
    """The label of a case with its tubed skeleton, where a loss needs it."""
    return preprocessed_case(root, case) / "label_skeleton.npy"


def skeletons_record(root: Path) -> Path:
    """How many vessel components of each case have no tubed skeleton, where a loss needs them."""
    return root / "data" / "skeletons.json"


def folds(root: Path) -> Path:
    """The folds, with the digest of the manifest they were made from."""
    return root / "folds.json"


def run_folder(root: Path, run: RunKey | str) -> Path:
    """Folder of one run: weights, history, predictions, metrics.

    >>> run_folder(Path("results/demo"), RunKey("dynunet", "dice_ce", 0, 1)).as_posix()
    'results/demo/runs/dynunet/dice_ce/seed0/fold1'
    """
    return root / "runs" / str(run)


def weights(run: Path) -> Path:
    """Best weights of a run (safetensors)."""
    return run / "weights.safetensors"


def run_record(run: Path) -> Path:
    """What made a run: model, digests, best epoch. The same bytes for the same inputs."""
    return run / "run.json"


def history(run: Path) -> Path:
    """Per-epoch curves of a run."""
    return run / "history.parquet"


def best_weights(run: Path, metric: str) -> Path:
    """Weights that did best by a selection metric other than the one that predicts."""
    return run / f"weights-{metric}.safetensors"


def averages(run: Path) -> Path:
    """Averaged weights and snapshots of a run, where its training keeps them."""
    return run / "averages.safetensors"


def prediction(run: Path, case: str) -> Path:
    """Predicted mask of a case, in the geometry of its source."""
    return run / "predictions" / f"{case}.nii.gz"


def probability(run: Path, case: str) -> Path:
    """Predicted vessel probability of a case, in the geometry of its source."""
    return run / "predictions" / f"{case}_probability.nii.gz"


def case_metrics(run: Path, case: str) -> Path:
    """Metrics of one case of one run, long format."""
    return run / "metrics" / f"{case}.parquet"


def ensembles(root: Path, model: str, loss: str, fold: int | str) -> Path:
    """Folder of all ensembles of one network, loss and fold.

    >>> ensembles(Path("results/demo"), "dynunet", "dice_ce", 1).as_posix()
    'results/demo/ensembles/dynunet/dice_ce/fold1'
    """
    return root / "ensembles" / model / loss / f"fold{fold}"


def ensembles_record(folder: Path) -> Path:
    """Members of the ensembles with their digests, and the digest of every volume made of them."""
    return folder / "ensembles.json"


def ensembles_metrics(folder: Path) -> Path:
    """Metrics of the ensembles of one fold, long format."""
    return folder / "ensembles.parquet"


def ensemble(folder: Path, kind: str, seed: int) -> Path:
    """Folder of one ensemble: its predictions lie in it as those of a run do."""
    return folder / kind / f"seed{seed}"


def uncertainty(run: Path, case: str, name: str) -> Path:
    """Map of a case: entropy, expected_entropy or mutual_information, in nats."""
    return run / "predictions" / f"{case}_{name}.nii.gz"


def calibrators(run: Path) -> Path:
    """Parameters of the run's calibrators, and the cases they were fitted on."""
    return run / "calibrators.json"


def run_table(run: Path, name: str) -> Path:
    """A table of one run alone: calibration, reliability, conformal."""
    return run / f"{name}.parquet"


def baseline(root: Path) -> Path:
    """Best single threshold of each case, chosen with the reference in hand."""
    return root / "tables" / "baseline.parquet"


def tracked(root: Path) -> Path:
    """Written when everything of the experiment is in MLflow."""
    return root / "tracked.json"


def table(root: Path, name: str) -> Path:
    """One of the tables of `statistics.tables.COLUMNS`: runs, cases, summary and so on."""
    return root / "tables" / f"{name}.parquet"


def summary(root: Path) -> Path:
    """The numbers that the paper and the final summary quote."""
    return root / "tables" / "summary.json"


def champions(root: Path) -> Path:
    """The champions, by which rule and by how much they won, and their networks."""
    return root / "champions.json"


def bundle(root: Path, kind: str) -> Path:
    """Folder of an exported champion; kind is the rule that it won by.

    >>> bundle(Path("results/demo"), "balanced").as_posix()
    'results/demo/deploy/balanced'
    """
    return root / "deploy" / kind


def bento_store(root: Path) -> Path:
    """BentoML's store of the services built from champions; never part of the digests."""
    return root / ".state" / "bentoml"


def bundle_model(folder: Path) -> Path:
    """The network of an exported champion (ONNX)."""
    return folder / "model.onnx"


def bundle_record(folder: Path) -> Path:
    """How an exported champion is used, and the SHA-256 of its other files."""
    return folder / "bundle.json"


def bundle_parity(folder: Path) -> Path:
    """How far the exported network is from what was trained, case by case."""
    return folder / "parity.json"


def bundle_variant(folder: Path, variant: str) -> Path:
    """The network of an exported champion in another precision."""
    return folder / f"model.{variant}.onnx"


def bundle_mlmodel(folder: Path) -> Path:
    """What makes an exported champion a model that MLflow loads."""
    return folder / "MLmodel"


def bundle_example(folder: Path) -> Path:
    """An input of the network, as MLflow stores it."""
    return folder / "input_example.json"


def bundle_requirements(folder: Path) -> Path:
    """Packages that run the network in MLflow."""
    return folder / "requirements.txt"


def deploy_timing(root: Path) -> Path:
    """How long each exported network took; never part of the digests."""
    return root / "logs" / "deploy-timing.json"


def model_card(folder: Path) -> Path:
    """What an exported champion is for, what it reached, its limits."""
    return folder / "README.md"


def audit_folder(root: Path) -> Path:
    """The audit log of unlocking the test set; never part of the digests, for it holds times."""
    return root / "audit"


def test_folder(root: Path, digest: str) -> Path:
    """Results on the test cases of one analysis, laid out as an experiment's own."""
    return root / "test" / digest[:16]


def external_folder(root: Path, name: str) -> Path:
    """Results on one external set, laid out as an experiment's own."""
    return root / "external" / name


def vote_folder(root: Path) -> Path:
    """Predictions on a test or external set by majority vote; those by the mean lie beside it."""
    return root / "vote"


def set_result(root: Path) -> Path:
    """Means and intervals on a test or external set, and which networks were evaluated."""
    return root / "result.json"


def summary_text(root: Path) -> Path:
    """The final summary as text."""
    return root / "summary.txt"


def figure(root: Path, name: str, suffix: str) -> Path:
    """A figure; suffix svg, pdf, png or json (digests of its tables)."""
    return root / "figures" / f"{name}.{suffix}"


def digests(root: Path) -> Path:
    """SHA-256 of every declared output, in the order of the DAG."""
    return root / "SHA256SUMS"


def report(root: Path) -> Path:
    """Snakemake's own HTML report."""
    return root / "report.html"


def paper_folder(root: Path) -> Path:
    """The rendered paper."""
    return root / "paper"


def dashboard(root: Path) -> Path:
    """The rendered dashboard, one page."""
    return paper_folder(root) / "dashboard.html"


def log(root: Path, *parts: str) -> Path:
    """Log of a step; never part of the digests."""
    return root.joinpath("logs", *parts[:-1], f"{parts[-1]}.log")


def job_graph(root: Path) -> Path:
    """Which file was made from which, by which rule; never part of the digests."""
    return root / "logs" / "dag.json"


def job_events(root: Path) -> Path:
    """What the jobs of the last run did and when; never part of the digests."""
    return root / "logs" / "jobs.jsonl"


def sweep_record(root: Path) -> Path:
    """What a sweep is: its space, its metric and the experiment that it varies."""
    return root / "sweep.json"


def sweep_experiment(root: Path, name: str) -> Path:
    """Experiment file of a trial, of the data that all share, or of the best trial."""
    return root / "experiments" / f"{name}.yaml"


def trial_record(root: Path, trial: int) -> Path:
    """What became of a trial of a sweep.

    >>> trial_record(Path("results/demo-sweep"), 3).as_posix()
    'results/demo-sweep/trials/003.json'
    """
    return root / "trials" / f"{trial:03d}.json"


def trials_csv(root: Path) -> Path:
    """The table of all trials of a sweep, as text; the same is in tables/trials.parquet."""
    return root / "tables" / "trials.csv"


def flow_lock(root: Path) -> Path:
    """Held by the one flow that works on the experiment."""
    return root / ".flow.lock"


def analysis_files(root: Path) -> Path:
    """Every analysis file that statistics were made with; never part of the digests."""
    return root / "logs" / "analysis-files.json"


def run_provenance(root: Path, run: RunKey) -> Path:
    """Commit and machine of a run, for MLflow; never part of the digests."""
    return root / "logs" / "provenance" / (str(run).replace("/", "-") + ".json")


def training_state(root: Path, digest: str) -> Path:
    """Checkpoint folder of a run, keyed by the digest of all that determines it.

    It is declared to nobody: Snakemake deletes the declared outputs of a job that failed.
    """
    return root / ".state" / digest
