"""The keys of an analysis file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from minivess.config.section import Name, Positive, Section, distinct


class AnalysisPlan(Section):
    """What is fixed before any result is seen; a file in `configs/analysis/` states every key."""

    name: Name = Field("default", description="name of the file")
    sha256: str = Field("", description="SHA-256 of the file")
    primary_metric: str = Field(
        "dice", description="metric of the main conclusion, and of the figures that show one"
    )
    secondary_metrics: Annotated[tuple[str, ...], AfterValidator(distinct)] = Field(
        ("cldice", "nsd", "masd_um", "hd95_um"),
        description="other metrics that arms are compared in; the rest is only described",
    )
    against: str | None = Field(
        None, description="arm (network/loss) that each other is compared with; none: all pairs"
    )
    alternative: Literal["two_sided", "better"] = Field(
        "two_sided",
        description="what tests look for: any difference, or that an arm is better than `against`",
    )
    alpha: float = Field(
        0.05, gt=0, lt=1, description="level of the tests; intervals have one minus it"
    )
    correction: Literal["holm", "benjamini_hochberg"] = Field(
        "holm", description="correction of p-values over the comparisons in one metric"
    )
    rope: dict[str, Positive] = Field(
        default={"dice": 0.01, "cldice": 0.01, "nsd": 0.01},
        description="largest difference, in the metric's unit, that means nothing in practice",
    )
    resampling: Literal["cases_within_folds", "groups_within_folds", "cases"] = Field(
        "cases_within_folds",
        description="what the bootstrap draws; with groups, their cases change sign together too",
    )

    power: float = Field(
        0.8, gt=0, lt=1, description="power for which the least detectable difference is given"
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that arms are compared in, the primary one first."""
        return (self.primary_metric, *self.secondary_metrics)

    @model_validator(mode="after")
    def _consistent(self) -> AnalysisPlan:
        distinct(self.metrics)
        unknown = sorted(set(self.rope) - set(self.metrics))
        if unknown:
            raise ValueError(f"rope has metrics that are not compared: {', '.join(unknown)}")
        if self.alternative == "better" and self.against is None:
            raise ValueError("alternative: better needs an arm to be better than, in against")
        return self
