"""Configuration keys of the losses and of the optimisation."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from minivess.config.section import Count, Name, Positive, Section, distinct


def own_name(value: Any) -> Any:
    """A loss of one's own as its results are called.

    >>> own_name("my_losses:MyLoss"), own_name("dice_ce")
    ('my_losses.MyLoss', 'dice_ce')
    """
    return value.replace(":", ".") if isinstance(value, str) else value


LossName = Annotated[Name, BeforeValidator(own_name)]


class LossConfig(Section):
    """What the losses share, and what some of them have of their own."""

    skeleton_iterations: Count = Field(
        5, description="iterations of the soft skeleton: at least the largest radius in voxels"
    )
    smooth: Positive = Field(1.0, description="added to numerator and denominator of ratios")
    tversky_alpha: Positive = Field(0.3, description="weight of false positives in tversky")
    tversky_beta: Positive = Field(0.7, description="weight of false negatives in tversky")
    focal_gamma: float = Field(2.0, ge=0, description="exponent of focal; 0 is the cross-entropy")
    boundary_weight: Positive = Field(
        0.01, description="weight of the boundary term in generalized_dice_boundary"
    )
    ace_weight: Positive = Field(
        1.0, description="weight of the calibration error in dice_ce_hl1ace"
    )
    ace_bins: Count = Field(20, description="bins of that calibration error")


class TrainingConfig(Section):
    """The optimisation, and which of its weights are kept."""

    epochs: Count = Field(100, description="epochs")
    learning_rate: Positive = Field(1e-3, description="peak learning rate")
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw", description="AdamW, or stochastic gradient descent with Nesterov momentum"
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="momentum of sgd; 0: none")
    schedule: Literal["cosine", "polynomial", "constant"] = Field(
        "cosine",
        description="learning rate after the warm-up: cosine or (1 - t)^0.9 to zero, or constant",
    )
    weight_decay: float = Field(
        1e-4, ge=0, description="weight decay; decoupled in adamw, part of the gradient in sgd"
    )
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="part of all steps with a rising learning rate"
    )
    gradient_clip: Positive = Field(12.0, description="largest norm of the gradient")
    accumulate: Count = Field(
        1, description="batches whose mean gradient makes one step; the epoch's last may have fewer"
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay per step of an exponential moving average of the weights, which then "
        "selects and predicts; none: no average",
    )
    warm_start: str | None = Field(
        None,
        min_length=1,
        description="safetensors file whose weights the training begins with, where name and shape "
        "match; {fold} in it stands for the number of the fold",
    )
    selection_metrics: Annotated[tuple[Name, ...], AfterValidator(distinct)] = Field(
        ("dice",),
        min_length=1,
        description="metrics of the selection cases, means over cases; the best weights of each "
        "are kept",
    )
    checkpoint_metric: Name | None = Field(
        None,
        description="selection metric whose best weights predict; none: the first. Another one "
        "trains nothing anew",
    )
    patience: Count | None = Field(
        None,
        description="evaluations without a better stopping_metric after which training stops; "
        "none: never",
    )
    stopping_metric: Name | None = Field(
        None, description="metric that patience watches; none: the first of selection_metrics"
    )
    selection_every: Count = Field(
        5, description="epochs between evaluations of the selection cases; the last one always"
    )
    selection_overlap: float = Field(
        0.25, ge=0, lt=1, description="overlap of the windows in those evaluations"
    )
    swa_start: Count | None = Field(
        None,
        description="epoch from which weights are averaged after each epoch (SWA); none: never",
    )
    swa_learning_rate: Positive = Field(
        5e-4, description="constant learning rate from swa_start on"
    )
    swag_rank: Annotated[int, Field(ge=2)] | None = Field(
        None, description="columns of SWAG's deviations, the latest so many epochs; none: SWA alone"
    )
    snapshot_cycles: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="cosine cycles of the learning rate, without warm-up, at whose ends weights "
        "are kept (snapshot ensembles); none: one decay",
    )

    def keeps_weights(self) -> bool:
        """Whether a run has more weights than those of its best epoch."""
        return self.swa_start is not None or self.snapshot_cycles is not None

    @property
    def predicting_metric(self) -> str:
        """The selection metric whose best weights predict."""
        return self.checkpoint_metric or self.selection_metrics[0]

    @property
    def watched_metric(self) -> str:
        """The metric that decides when to stop."""
        return self.stopping_metric or self.selection_metrics[0]

    def measured(self) -> tuple[str, ...]:
        """Metrics that the selection cases are measured with, Dice always among them.

        >>> TrainingConfig(selection_metrics=("cldice",)).measured()
        ('dice', 'cldice')
        """
        return tuple(dict.fromkeys(("dice", *self.selection_metrics, self.watched_metric)))

    def other_metrics(self) -> tuple[str, ...]:
        """Selection metrics whose best weights are kept beside those that predict."""
        return tuple(name for name in self.selection_metrics if name != self.predicting_metric)
