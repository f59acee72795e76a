"""The words that code, tables and pages use, each for one thing."""

from __future__ import annotations

GLOSSARY: dict[str, str] = {
    "affine": "4 x 4 matrix from voxel indices (x, y, z) to positions in space, as NIfTI has it.",
    "branch": "Piece of a skeleton between two junctions or ends.",
    "case": "One volume and its label.",
    "champion": "The trained model that is chosen for use on new volumes.",
    "ensemble": "Several trained networks that predict together; its arm is called NETWORK+KIND.",
    "experiment": "One file in `configs/experiment/` and everything made from it, in "
    "`results/<experiment>/`.",
    "external set": "Another data set that the champion is evaluated on; nothing is trained on it.",
    "fold": "One division of the cases: some train, some select the checkpoint, the held-out rest "
    "validates. Each case is validated in exactly one fold.",
    "group": "Cases that belong together, such as volumes of one animal: never on two sides of a "
    "fold.",
    "junction": "Voxel of a skeleton where three or more branches meet.",
    "label": "Annotation of a volume, one number per voxel: 0 is background, 1 is vessel (or the "
    "values that `data.vessel_labels` names).",
    "mask": "True or false for each voxel: vessel or not.",
    "origin": "Laboratory or data set that a case is from.",
    "patch": "Small box cut from a volume, what the network trains on.",
    "phantom": "A synthetic volume whose vessels are known exactly.",
    "prediction": "The mask that a trained network makes of a volume.",
    "probability": "The network's vessel probability of each voxel, 0 to 1; above the threshold it "
    "becomes the prediction.",
    "reference": "The mask that a prediction is measured against: the label's vessels.",
    "run": "One training: one network, one loss, one seed, one fold.",
    "skeleton": "Centreline of a mask, one voxel wide.",
    "spacing_um": "Distance between neighbouring voxels along (x, y, z), in micrometres.",
    "test case": "Case in no fold, whose label no step reads before `minivess unlock-test`.",
    "volume": "A three-dimensional image with the axes (x, y, z); z is the slow optical axis.",
}
