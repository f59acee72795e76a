"""The sections of calibrated probabilities and of masks with a guarantee."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from minivess.config.section import Count, Positive, Section, distinct

Share = Annotated[float, Field(gt=0, lt=1)]


class CalibrationConfig(Section):
    """Calibrators of the probabilities, fitted on the selection cases of each run.

    Where `folds.selection_fraction` is 0 there are none, and no calibrator is fitted.
    """

    methods: Annotated[
        tuple[Literal["temperature", "local_temperature", "isotonic"], ...],
        AfterValidator(distinct),
    ] = Field(
        ("temperature", "local_temperature", "isotonic"),
        description="calibrators to fit and compare with the network's own probability",
    )
    fitted_voxels: Count = Field(
        20000, description="voxels that each is fitted on, drawn from all selection cases alike"
    )
    calibration_seed: int = Field(0, ge=0, description="seed of that draw")
    local_steps: Count = Field(200, description="steps of Adam of the local temperature's network")
    local_learning_rate: Positive = Field(0.001, description="learning rate of these steps")
    reliability_bins: int = Field(
        10, ge=2, le=100, description="bins of the reliability diagram; the metric ece has its own"
    )


class ConformalConfig(Section):
    """Masks with a guarantee: calibrated on one half of a fold's held-out cases for the other."""

    alphas: Annotated[tuple[Share, ...], AfterValidator(distinct)] = Field(
        (0.1, 0.2),
        description="risks: the part of the reference that may be missed on average, and the part "
        "of cases that may be outside their margins; n calibration cases reach 1 / (n + 1)",
    )
    covered_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.95,
        description="a case is covered where the outer mask holds this part of the reference, or "
        "where this part of the inner mask is vessel",
    )
    conformal_seed: int = Field(0, ge=0, description="seed of the halves")
