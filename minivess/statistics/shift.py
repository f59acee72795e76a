"""How two data sets differ: properties of each case, and the distance of their distributions.

Properties, all of the stored volume, before any normalisation:

- spacing_x, spacing_y, spacing_z and size_x, size_y, size_z: of a voxel and of the volume, in um;
- intensity_mean: mean of all voxels, as stored;
- contrast: mean of the vessels minus mean of the background, over the range from the 1st to the
  99th percentile of the volume, so that offset and gain of the detector cancel;
- snr: mean of the vessels over the standard deviation of the background;
- vessel_fraction: part of the voxels that is vessel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl

    from minivess.types import Array, BoolArray, Spacing

PROPERTIES: dict[str, str] = {
    **{f"spacing_{axis}": "um" for axis in "xyz"},
    **{f"size_{axis}": "um" for axis in "xyz"},
    "intensity_mean": "raw",
    "contrast": "1",
    "snr": "1",
    "vessel_fraction": "1",
}


def case_properties(image: Array, label: BoolArray, spacing_um: Spacing) -> dict[str, float | None]:
    """Every property of a case; none where it is not defined.

    Args:
        image: (x, y, z), stored intensities.
        label: mask of the same shape.
        spacing_um: spacing (x, y, z) in um.

    >>> image, label = np.arange(8.0).reshape(2, 2, 2), np.zeros((2, 2, 2), dtype=bool)
    >>> label[1, 1] = True
    >>> found = case_properties(image, label, (1.0, 1.0, 5.0))
    >>> found["size_z"], found["vessel_fraction"], round(found["contrast"], 4)
    (10.0, 0.25, 0.5831)
    """
    values = image.astype(np.float64)
    low, high = np.percentile(values, [1, 99])
    found: dict[str, float | None] = dict(
        zip((f"spacing_{axis}" for axis in "xyz"), map(float, spacing_um), strict=True)
    )
    sizes = np.array(image.shape) * np.array(spacing_um)
    found |= dict(zip((f"size_{axis}" for axis in "xyz"), sizes.tolist(), strict=True))
    found |= {"intensity_mean": float(values.mean()), "contrast": None, "snr": None}
    if label.any() and not label.all():
        vessel, background = values[label], values[~label]
        if high > low:
            found["contrast"] = float((vessel.mean() - background.mean()) / (high - low))
        if background.std() > 0:
            found["snr"] = float(vessel.mean() / background.std())
    found["vessel_fraction"] = float(np.count_nonzero(label) / label.size)
    return found


def property_rows(
    name: str, cases: Mapping[str, Mapping[str, float | None]]
) -> list[dict[str, object]]:
    """Rows of the table properties, from `case_properties` of each case of a set."""
    return [
        {"set": name, "case": case, "property": key, "unit": unit, "value": found[key]}
        for case, found in cases.items()
        for key, unit in PROPERTIES.items()
    ]


def shift_table(name: str, properties: pl.DataFrame) -> pl.DataFrame:
    """The table shift: for each property medians, Wasserstein distance and KS test, with n.

    Args:
        name: of the external set.
        properties: the table properties of the own cases and of this set.

    Cases are the sampled unit here; where several are from one animal, p is too small. With few
    cases a large p says nothing.
    """
    import polars as pl

    from minivess.statistics import tables

    rows = []
    for key, unit in PROPERTIES.items():
        of_key = properties.filter(pl.col("property") == key).drop_nulls("value")
        own = of_key.filter(pl.col("set") == "own")["value"].sort().to_list()
        other = of_key.filter(pl.col("set") == name)["value"].sort().to_list()
        about = {"set": name, "property": key, "unit": unit}
        rows.append({**about, "n_own": len(own), "n_set": len(other), **_distances(own, other)})
    return tables.from_rows("shift", rows)


def _distances(own: Sequence[float], other: Sequence[float]) -> dict[str, object]:
    """Source: SciPy's wasserstein_distance and ks_2samp (two-sided)."""
    from scipy.stats import ks_2samp, wasserstein_distance

    found: dict[str, object] = {
        "median_own": float(np.median(own)) if own else None,
        "median_set": float(np.median(other)) if other else None,
        "wasserstein": None,
        "ks_statistic": None,
        "ks_p": None,
    }
    if own and other:
        test = ks_2samp(own, other)
        found["wasserstein"] = float(wasserstein_distance(own, other))
        found |= {"ks_statistic": float(test.statistic), "ks_p": float(test.pvalue)}
    return found
