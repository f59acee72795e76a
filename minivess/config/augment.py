"""The section of the augmentation of training patches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from minivess.config.section import Probability, Section


class AugmentConfig(Section):
    """Augmentation of the training patches, through TorchIO."""

    flip_probability: Probability = Field(0.5, description="of a flip, for each axis")
    affine_probability: Probability = Field(0.3, description="of an in-plane rotation and zoom")
    rotation_degrees: float = Field(
        20.0, ge=0, le=180, description="largest rotation about the optical axis"
    )
    zoom: float = Field(0.1, ge=0, lt=0.9, description="largest in-plane zoom in or out")
    blur_probability: Probability = Field(0.0, description="of an in-plane Gaussian blur")
    blur_sigma_um: float = Field(
        1.0, ge=0, description="largest standard deviation of that blur in um, drawn for x and y"
    )
    low_resolution_probability: Probability = Field(
        0.0, description="of a simulated coarser in-plane sampling"
    )
    low_resolution_factor: float = Field(
        2.0, ge=1, description="largest factor by which that sampling is coarser"
    )
    brightness_probability: Probability = Field(
        0.0, description="of one factor for all intensities, which zscore centres on 0"
    )
    brightness_range: float = Field(
        0.25, ge=0, lt=1, description="largest relative change of the intensities by that factor"
    )
    contrast_probability: Probability = Field(
        0.0, description="of a change of contrast about the patch's mean, within its range"
    )
    contrast_range: float = Field(
        0.25, ge=0, lt=1, description="largest relative change of the contrast"
    )
    gamma_probability: Probability = Field(0.2, description="of a gamma correction")
    gamma_log_range: float = Field(0.3, ge=0, description="largest |log gamma|")
    gamma_method: Literal["signed", "range"] = Field(
        "signed",
        description="signed: sign(x)|x|^gamma; range: of the patch scaled to 0..1, whose mean and "
        "standard deviation are then restored",
    )
    gamma_invert_probability: Probability = Field(
        0.0,
        description="that a gamma correction is made on the inverted image; needs the method range",
    )
    noise_probability: Probability = Field(0.2, description="of additive Gaussian noise")
    noise_std: float = Field(0.2, ge=0, description="largest standard deviation of that noise")

    @model_validator(mode="after")
    def _inversion_does_something(self) -> AugmentConfig:
        if self.gamma_invert_probability > 0 and self.gamma_method == "signed":
            raise ValueError(
                "gamma_invert_probability needs gamma_method range: sign(x)|x|^gamma is an odd "
                "function, the same on the inverted image"
            )
        return self
