"""Write skan_values.json: what skan measures on the skeletons of `skeleton_cases`.

skan is no dependency of the project (it needs numba). To make the file again:

    PYTHONPATH=tests uv run --no-project --with skan==0.13.1 --with scikit-image==0.26.0 \\
        python tests/metrics/skan_values.py
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy import ndimage
from skeleton_cases import cases, fingerprint

NEIGHBOURS = np.ones((3, 3, 3))


def measured(skeleton: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, object]:
    import skan  # not in the project's environment

    graph = skan.Skeleton(skeleton, spacing=spacing)
    table = skan.summarize(graph, separator="_")
    counts = ndimage.convolve(skeleton.astype(int), NEIGHBOURS, mode="constant") - 1
    clusters = ndimage.label(skeleton & (counts >= 3), NEIGHBOURS)[0]
    branches = []
    for path, row in enumerate(table.itertuples()):
        # Joints within a cluster of junction voxels: one junction here, short branches in skan.
        inside = {int(clusters[tuple(place)]) for place in graph.path_coordinates(path)}
        if inside != {0} and len(inside) == 1:
            continue
        branches.append([float(row.branch_distance), float(row.euclidean_distance)])
    nodes = np.zeros(skeleton.shape, dtype=bool)
    nodes[tuple(graph.coordinates[graph.degrees >= 3].T)] = True
    return {
        "fingerprint": fingerprint(skeleton),
        "length_um": float(table["branch_distance"].sum()),
        "n_branches_of_skan": len(table),
        "n_junctions": int(np.unique(clusters[nodes]).size),
        "branches": sorted(branches),
    }


def main() -> None:
    values = {name: measured(*case) for name, case in cases().items()}
    found = {"skan": version("skan"), "scikit-image": version("scikit-image"), "cases": values}
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
