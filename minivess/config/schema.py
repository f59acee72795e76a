"""Every configuration key with its meaning, unit, bounds and default; some sections have a module.

There is no other home.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from minivess.config.augment import AugmentConfig
from minivess.config.calibration import CalibrationConfig, ConformalConfig
from minivess.config.deploy import DeployConfig
from minivess.config.ensembles import EnsemblesConfig, ensemble_model
from minivess.config.models import ModelConfig
from minivess.config.plan import AnalysisPlan
from minivess.config.section import (
    Count,
    HexColor,
    Millimetres,
    Name,
    Positive,
    Probability,
    Section,
    distinct,
)
from minivess.config.training import LossConfig, LossName, TrainingConfig
from minivess.types import RunKey


def _no_set_own[T](sets: dict[str, T]) -> dict[str, T]:
    if "own" in sets:
        raise ValueError("own is what tables call the experiment's own cases")
    return sets


class DataConfig(Section):
    """Where the volumes come from."""

    source: Literal["phantom", "csv", "minivess", "nnunet"] = Field(
        "phantom", description="kind of source"
    )
    path: str | None = Field(
        None, description="cases.csv, or folder or ZIP of the data set; the phantom has none"
    )
    spacing_um: tuple[Positive, Positive, Positive] | None = Field(
        None, description="spacing (x, y, z) in um of all volumes that declare none themselves"
    )
    spacing_unit: Literal["header", "um", "mm"] = Field(
        "header", description="unit of the spacing in the files' headers, where the headers lie"
    )
    vessel_labels: tuple[int, ...] | None = Field(
        None, description="label values that mean vessel; needed where labels are not 0 and 1"
    )
    exclude: tuple[str, ...] = Field((), description="cases to leave out, by name")
    origin: str | None = Field(
        None,
        min_length=1,
        description="laboratory or data set that all volumes are from, where the list of cases "
        "has no column origin",
    )


class PhantomConfig(Section):
    """The embedded synthetic data set."""

    n_cases: int = Field(8, ge=1, le=999, description="number of volumes")
    phantom_shape: tuple[Count, Count, Count] = Field(
        (96, 96, 24), description="voxels along (x, y, z)"
    )
    phantom_spacing_um: tuple[Positive, Positive, Positive] = Field(
        (1.0, 1.0, 5.0), description="spacing (x, y, z) in um"
    )
    n_trees: int = Field(3, ge=1, description="vessel trees per volume")
    photons: Positive = Field(
        30.0, description="photons per voxel in a bright vessel: fewer means more shot noise"
    )
    phantom_seed: int = Field(0, ge=0, description="seed of the volumes")


class PreprocessConfig(Section):
    """From source volume to network input; the resolution is never changed."""

    normalisation: Literal["zscore", "minmax", "none"] = Field(
        "zscore", description="intensity normalisation over the volume, after clipping"
    )
    clip_percentiles: tuple[float, float] = Field(
        (0.5, 99.5), description="intensities are clipped at these percentiles of the volume"
    )

    @model_validator(mode="after")
    def _ordered(self) -> PreprocessConfig:
        low, high = self.clip_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError("clip_percentiles must be two rising numbers between 0 and 100")
        return self


class FoldsConfig(Section):
    """Cross-validation, made once before any training."""

    n_folds: int = Field(3, ge=2, description="number of folds; a folds file brings its own")
    folds_seed: int = Field(42, ge=0, description="seed of the assignment")
    folds_file: str | None = Field(
        None, description="folds made elsewhere (JSON), accepted as they are"
    )
    selection_fraction: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="part of each fold's training groups that only selects the checkpoint; 0: "
        "none, all of them train, and the weights of the last epoch predict",
    )
    test_cases: tuple[str, ...] = Field(
        (),
        description="cases locked away from every fold; their labels are not read before "
        "`minivess unlock-test`",
    )

    def groups_needed(self, n_folds: int) -> int:
        """Groups of cases that so many folds need: in each of them others train, and may select.

        >>> FoldsConfig().groups_needed(2), FoldsConfig(selection_fraction=0).groups_needed(2)
        (4, 2)
        """
        # 2 folds of 3 groups would leave one group to train and to select on.
        return 4 if n_folds == 2 and self.selection_fraction else n_folds

    def changes_for(self, n_groups: int) -> list[str]:
        """What to set where these folds need more groups of cases than there are, each alone.

        >>> FoldsConfig(n_folds=3).changes_for(2)
        ['set folds.n_folds: 2 and folds.selection_fraction: 0']
        >>> FoldsConfig(n_folds=2).changes_for(3)
        ['set folds.n_folds: 3', 'set folds.selection_fraction: 0']
        """
        changes = []
        no_selection = "folds.selection_fraction: 0"
        if n_groups >= 2 and n_groups != self.n_folds:
            too = f" and {no_selection}" if self.groups_needed(n_groups) > n_groups else ""
            changes.append(f"set folds.n_folds: {n_groups}{too}")
        if self.selection_fraction and n_groups >= self.n_folds:
            changes.append(f"set {no_selection}")
        return changes


class PatchKeys(Section):
    """Patches the network trains on."""

    patch_size: tuple[Count, Count, Count] | Literal["auto"] = Field(
        (64, 64, 16),
        description="voxels along (x, y, z); auto: what volumes and the network's profile allow",
    )
    batch_size: Count | Literal["auto"] = Field(
        2, description="patches per step; auto: as many as the network's profile has room for"
    )
    patches_per_epoch: Count = Field(64, description="patches per epoch, over all cases")
    foreground_fraction: Probability = Field(
        0.5, description="part of the patches centred on a vessel voxel"
    )
    pad_thin: bool = Field(
        False,
        description="mirror volumes that are thinner than the patch up to it; else that is an "
        "error",
    )


class PatchConfig(PatchKeys):
    """Patches once size and number are decided."""

    patch_size: tuple[Count, Count, Count] = (64, 64, 16)
    batch_size: Count = 2


class ComputeConfig(Section):
    """How it is computed, not what."""

    profile: Literal["strict", "fast"] = Field(
        "strict",
        description="strict: float32 without TF32, by kernels that all x86-64 CPUs have; fast: the "
        "CPU's own kernels, TF32, and bfloat16 autocast where the device multiplies it itself",
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d{1,2})?)$", description="auto, cpu, cuda or cuda:N"
    )
    threads: Count = Field(1, description="CPU threads of each process that trains or predicts")
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        0,
        description="processes that prepare patches for a trainer; 0: in it; auto: some beside a "
        "GPU, none on the CPU",
    )
    compile: bool = Field(
        False,
        description="compile the network with torch.compile for training; needs the profile fast",
    )
    devices: Count = Field(
        1, description="devices that share the training of one fold, a process for each"
    )

    @property
    def most_workers(self) -> int:
        """Processes that prepare patches, or the most that auto starts."""
        return 4 if self.workers == "auto" else self.workers

    def workers_on(self, gpu: bool) -> int:
        """The same where a training is, or is not, on a GPU: without one auto starts none."""
        return 0 if self.workers == "auto" and not gpu else self.most_workers


class InferenceConfig(Section):
    """Sliding window with Gaussian blending."""

    window_size: tuple[Count, Count, Count] | None = Field(
        None, description="window in voxels; none: the patch size"
    )
    overlap: float = Field(0.5, ge=0, lt=1, description="overlap of neighbouring windows")
    window_batch: Count = Field(4, description="windows per forward pass")
    probability_threshold: Probability = Field(
        0.5, description="a voxel is vessel above this probability"
    )


class EvaluationConfig(Section):
    """Per-case metrics."""

    nsd_tolerance_um: Positive = Field(
        2.0,
        description="tolerance of the normalised surface distance, and half the width of the band "
        "of the boundary ECE, in um",
    )
    junction_tolerance_um: Positive = Field(
        5.0, description="largest offset of a junction that counts as found, in um"
    )


class StatisticsConfig(Section):
    """How intervals and tests over cases are computed; what is tested is in the analysis file."""

    plan: AnalysisPlan = Field(
        AnalysisPlan(), description="analysis file: its name in `configs/analysis/`, or its path"
    )
    bootstrap_resamples: Count = Field(9999, description="resamples of each bootstrap")
    permutation_resamples: Count = Field(
        9999, description="random sign flips where not all can be enumerated"
    )
    posterior_samples: Count = Field(
        50_000, description="samples of the posterior of the Bayesian signed-rank test"
    )
    statistics_seed: int = Field(0, ge=0, description="seed of the resampling")

    @property
    def confidence(self) -> float:
        """Level of the intervals."""
        return round(1 - self.plan.alpha, 9)

    @property
    def primary_metric(self) -> str:
        """Metric of the main conclusion."""
        return self.plan.primary_metric


class FigureConfig(Section):
    """Look of one figure."""

    colors: tuple[HexColor, ...] = Field(
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
        min_length=1,
        description="colours in the order of the losses (Okabe and Ito's palette); "
        "fold_heatmap has none",
    )
    width_mm: Millimetres = Field(
        170.0, description="largest width of the figure; it is narrower where it needs less"
    )


class HeatmapConfig(Section):
    """Look of a figure whose colours stand for numbers, and are therefore not chosen."""

    width_mm: Millimetres = Field(
        170.0, description="largest width of the figure; it is narrower where it needs less"
    )


class FiguresConfig(Section):
    """One entry per figure, so that a change of one remakes only that one."""

    loss_comparison: FigureConfig = FigureConfig()
    paired_cases: FigureConfig = FigureConfig()
    forest: FigureConfig = FigureConfig()
    critical_difference: FigureConfig = FigureConfig()
    fold_heatmap: HeatmapConfig = HeatmapConfig()
    training_curves: FigureConfig = FigureConfig()
    qualitative: FigureConfig = FigureConfig()
    reliability: FigureConfig = FigureConfig()


class Experiment(Section):
    """A whole experiment, resolved and checked."""

    name: Name = Field(description="name of the experiment and of its results folder")
    losses: Annotated[tuple[LossName, ...], AfterValidator(distinct)] = Field(
        ("cbdice_cldice",),
        min_length=1,
        description="losses to compare, the first one is default; `module:Name` is one of your own",
    )
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(distinct)] = Field(
        (0,), min_length=1, description="seeds of the training runs"
    )
    models: dict[Name, ModelConfig] = Field(
        default={"dynunet": ModelConfig()}, min_length=1, description="networks to compare, by name"
    )
    data: DataConfig = DataConfig()
    phantom: PhantomConfig = PhantomConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    folds: FoldsConfig = FoldsConfig()
    patches: PatchKeys = PatchKeys()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    compute: ComputeConfig = ComputeConfig()
    inference: InferenceConfig = InferenceConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    ensembles: EnsemblesConfig = EnsemblesConfig()
    statistics: StatisticsConfig = StatisticsConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    deploy: DeployConfig = DeployConfig()
    conformal: ConformalConfig = ConformalConfig()
    figures: FiguresConfig = FiguresConfig()
    external: Annotated[dict[Name, DataConfig], AfterValidator(_no_set_own)] = Field(
        default={}, description="other data sets that the champion is evaluated on, by name"
    )

    def runs(self, n_folds: int) -> list[RunKey]:
        """Every run: model x loss x seed x fold."""
        return [
            RunKey(model, loss, seed, fold)
            for model in self.models
            for loss in self.losses
            for seed in self.seeds
            for fold in range(n_folds)
        ]

    def arms(self) -> tuple[tuple[str, str], ...]:
        """(model, loss) pairs in the order of the config, which figures and tables keep."""
        return tuple((model, loss) for model in self.models for loss in self.losses)

    def ensemble_arms(self) -> tuple[tuple[str, str], ...]:
        """Arms of the ensembles, named NETWORK+KIND, in the order of the config."""
        return tuple(
            (ensemble_model(model, kind), loss)
            for model, loss in self.arms()
            for kind in self.ensembles.kinds
        )
