"""Configuration keys of the losses and of the optimisation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from minivess.config.section import Count, Positive, Section


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
    """The optimisation: AdamW, linear warm-up, cosine decay to zero."""

    epochs: Count = Field(100, description="epochs")
    learning_rate: Positive = Field(1e-3, description="peak learning rate")
    weight_decay: float = Field(1e-4, ge=0, description="decoupled weight decay of AdamW")
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="part of all steps with a rising learning rate"
    )
    gradient_clip: Positive = Field(12.0, description="largest norm of the gradient")
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
