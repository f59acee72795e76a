"""The model card of a bundle, in the format of the Hugging Face hub: YAML, then Markdown.

Every number in it is one of a table or of a record of the experiment; what nobody has measured is
not said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from minivess.config.profiles import ModelProfile
from minivess.deploy.bundle import Bundle, BundleMetric
from minivess.deploy.mlflow_model import signature_text
from minivess.metrics import METRICS

PIPELINE, LIBRARY = "image-segmentation", "onnx"


@dataclass(frozen=True)
class CardFacts:
    """What a card says, besides the bundle.

    Attributes:
        meaning: of the rule that it won by.
        margin: by how much, in words.
        record: what run.json says.
        source: kind of source of the volumes.
        cases: (case, role, spacing_um, shape, SHA-256 of the image) of all cases of the run.
        digests: SHA-256 of manifest and folds, by name.
        own_means: metric -> mean over the held-out cases of this network's fold.
        parity: what parity.json says.
        coverage: rows of the table coverage for its arm and seed.
        terms: profile of a network that started from weights.
    """

    meaning: str
    margin: str
    record: Mapping[str, Any]
    source: str
    cases: Sequence[tuple[str, str, Sequence[float], Sequence[int], str]]
    digests: Mapping[str, str]
    own_means: Mapping[str, float]
    parity: Mapping[str, Any]
    coverage: Sequence[Mapping[str, Any]]
    terms: ModelProfile | None = None


def model_card(bundle: Bundle, facts: CardFacts) -> str:
    """The card as text."""
    front = yaml.safe_dump(front_matter(bundle, facts), sort_keys=False, allow_unicode=True)
    parts = [
        _head(bundle, facts),
        _uses(bundle, facts),
        _metrics(bundle, facts),
        _uncertainty(bundle, facts),
        _data(bundle, facts),
        _files(bundle, facts),
    ]
    return f"---\n{front}---\n\n" + "\n\n".join(parts) + "\n"


def front_matter(bundle: Bundle, facts: CardFacts) -> dict[str, Any]:
    """The metadata that the hub reads."""
    main = [one for one in bundle.metrics if METRICS[one.metric].panel == "main"]
    return {
        "license": bundle.licence,
        "library_name": LIBRARY,
        "pipeline_tag": PIPELINE,
        "tags": [
            "vessel-segmentation",
            "biomedical-imaging",
            "3d",
            "onnx",
            bundle.architecture,
            f"loss:{facts.record['loss']}",
        ],
        "model-index": [
            {
                "name": f"minivess.{bundle.experiment}.{bundle.kind}",
                "results": [
                    {
                        "task": {"type": PIPELINE, "name": "3D vessel segmentation"},
                        "dataset": {
                            "name": f"held-out cases of the experiment {bundle.experiment}",
                            "type": facts.source,
                            "revision": facts.digests["manifest"],
                        },
                        "metrics": [_indexed(one) for one in main],
                    }
                ],
            }
        ],
    }


def _indexed(one: BundleMetric) -> dict[str, Any]:
    name = f"{one.label}, mean over {one.n_cases} held-out cases"
    found: dict[str, Any] = {"type": one.metric, "name": name, "value": one.mean}
    if one.ci_low is not None and one.ci_high is not None:
        found["args"] = {
            "confidence": one.confidence,
            "ci_low": one.ci_low,
            "ci_high": one.ci_high,
        }
    return found


def _head(bundle: Bundle, facts: CardFacts) -> str:
    won = f"It won by the rule {bundle.kind}: it {facts.meaning}, {facts.margin}."
    also = f" The same network also won by {' and '.join(bundle.also)}." if bundle.also else ""
    record = facts.record
    return (
        f"# {bundle.experiment}: champion {bundle.kind}\n\n"
        f"Vessel segmentation of 3D volumes with {bundle.architecture}, trained with the loss "
        f"{record['loss']} (seed {record['seed']}, fold {record['fold']}, weights of epoch "
        f"{record['best_epoch']} of {record['epochs']}). {won}{also}\n\n"
        "Made by MiniVess; nothing in this folder is pickled."
    )


def _uses(bundle: Bundle, facts: CardFacts) -> str:
    spacing = _times(bundle.spacing_um)
    limits = [
        "Not for diagnosis or treatment.",
        (
            "Other spacings, microscopes, dyes, tissues and species than those of the cases below "
            "are untested; `minivess external` evaluates it on another data set."
        ),
        (
            f"The mask is what lies above the probability {bundle.threshold:g}; there is no other "
            "post-processing. The probabilities are the network's own, not calibrated."
        ),
    ]
    if facts.source == "phantom":
        limits.append("It was trained on synthetic volumes. How it does on real ones is unknown.")
    terms = facts.terms
    if terms is not None:
        limits.append(
            "Its training began with weights from a file, given as weights of "
            f"{terms.architecture}. As the network's profile states, their licence is "
            f"{terms.licence}, and they have seen "
            f"{', '.join(terms.trained_on) or 'nothing that is known'}. Whether that is true of "
            "the file was not checked: who gives this network away has to know."
        )
    return (
        "## Intended use\n\n"
        f"Segmenting vessels in volumes like those it was trained on (typical spacing {spacing} "
        "µm), for research: `minivess segment FILE --experiment "
        f"{bundle.experiment} --kind {bundle.kind}`, the service or the page of MiniVess. A "
        "volume is taken at its own resolution; nothing is resampled.\n\n"
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)
    )


def _metrics(bundle: Bundle, facts: CardFacts) -> str:
    level = f"{100 * bundle.metrics[0].confidence:g}%" if bundle.metrics else "95%"
    arm = f"{facts.record['model']} with {facts.record['loss']}"
    lines = [
        "## Metrics",
        "",
        (
            f"Means over the held-out cases of all folds with their {level} intervals: each case "
            f"was predicted by a network of the arm ({arm}) that had not seen it. The last column "
            "is this network alone, on the held-out cases of its own fold."
        ),
        "",
        f"| metric | unit | mean | {level} interval | cases | not ok | this network |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in bundle.metrics:
        interval = "none" if one.ci_low is None else f"{one.ci_low:.4g} to {one.ci_high:.4g}"
        own = facts.own_means.get(one.metric)
        alone = "" if own is None else f"{own:.4g}"
        lines.append(
            f"| {one.label} | {one.unit} | {one.mean:.4g} | {interval} | {one.n_cases} | "
            f"{one.n_not_ok} | {alone} |"
        )
    return "\n".join(lines)


def _uncertainty(bundle: Bundle, facts: CardFacts) -> str:
    text = (
        "## How uncertain\n\n"
        "The intervals above are over cases: they say how the mean would vary with other cases of "
        "the same origin, and nothing of other origins."
    )
    rows = [row for row in facts.coverage if row["observed"] is not None]
    if not rows:
        return text + " Masks with a guarantee were not tested: too few held-out cases."
    lines = ["", "", "Masks with a guarantee, tested on held-out cases of the arm:", ""]
    lines += [
        "| method | alpha | cases | promised | observed | interval |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["ci_low"], row["ci_high"]
        interval = "none" if low is None else f"{low:.4g} to {high:.4g}"
        lines.append(
            f"| {row['method']} | {row['alpha']:g} | {row['n_cases']} | {row['promised']:g} | "
            f"{row['observed']:.4g} | {interval} |"
        )
    return text + "\n".join(lines)


def _chosen(facts: CardFacts) -> str:
    if any(role == "selection" for _, role, *_ in facts.cases):
        return "those with the role selection have chosen the epoch"
    return "no case has chosen the epoch, these are the weights of the last one"


def _data(bundle: Bundle, facts: CardFacts) -> str:
    lines = [
        "## Data",
        "",
        (
            f"Source: {facts.source}. SHA-256 of the manifest: `{facts.digests['manifest']}`, of "
            f"the folds: `{facts.digests['folds']}`. Only the cases with the role train have "
            f"changed weights; {_chosen(facts)}; metrics are of those held out."
        ),
        "",
        "| case | role | spacing (µm) | voxels | SHA-256 of the image |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {case} | {role} | {_times(spacing)} | {_times(shape)} | `{digest}` |"
        for case, role, spacing, shape, digest in facts.cases
    ]
    return "\n".join(lines)


def _files(bundle: Bundle, facts: CardFacts) -> str:
    full = facts.parity["variants"]["float32"]
    lines = [
        "## Files",
        "",
        (
            f"- `model.onnx`: {signature_text(bundle)}. The volume is normalised "
            f"({bundle.preprocess.normalisation}, clipped at the percentiles "
            f"{_and(bundle.preprocess.clip_percentiles)}) and cut into windows of "
            f"{_times(bundle.window)} voxels that overlap by {bundle.overlap:g}; their "
            "probabilities are blended with Gaussian weights."
        ),
        (
            "- `parity.json`: against the predictions of the trained network, probabilities differ "
            f"by at most {full['max_difference']:.2g}, the smallest Dice of the masks is "
            f"{full['min_dice']:.6f}, over {len(full['cases'])} held-out cases."
        ),
        (
            "- `bundle.json`: all that is needed to use the network as it was evaluated, and the "
            "SHA-256 of every other file."
        ),
        "- `MLmodel`, `input_example.json`, `requirements.txt`: for MLflow.",
    ]
    for name, file in sorted(bundle.variants.items()):
        one = facts.parity["variants"][name]
        lines.append(
            f"- `{file}`: the network in {name}; probabilities differ by up to "
            f"{one['max_difference']:.2g}, smallest Dice of the masks {one['min_dice']:.4f}."
        )
    return "\n".join(lines)


def _and(values: Sequence[float]) -> str:
    return " and ".join(f"{value:g}" for value in values)


def _times(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
