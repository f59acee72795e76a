"""Exported champions in MLflow's model registry, as a model of their own that MLflow can load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minivess.tracking.export import current_runs, lacking
from minivess.tracking.mlflow_log import RUN_TAG
from minivess.tracking.registry import model_name
from minivess.tracking.store import LOCK_TIMEOUT_S, connection, exclusive

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from minivess.types import RunKey

ONNX_TAG = "minivess.onnx_sha256"
# The champion where one is wanted: best over overlap, topology and distance together.
CHAMPION, OF_ALL = "champion", "balanced"


@dataclass(frozen=True)
class Exported:
    """A bundle as the registry has it.

    Attributes:
        run: of the network.
        model_sha256: of the ONNX file; a version is known by it.
        source: folder of the bundle, relative: it stays in results/.
        tags: licence and digest of the bundle.
        description: what it is, in a sentence.
    """

    run: RunKey
    model_sha256: str
    source: str
    tags: Mapping[str, str]
    description: str


def exported_name(experiment: str) -> str:
    """Name of an experiment's exported model in the registry.

    >>> exported_name("demo")
    'minivess.demo.onnx'
    """
    return f"{model_name(experiment)}.onnx"


def register_exported(
    uri: str,
    experiment: str,
    exported: Mapping[str, Exported],
    timeout_s: float = LOCK_TIMEOUT_S,
) -> dict[str, str]:
    """Give the alias of each rule, and `champion`, to a version of the exported model.

    An ONNX file is one version, however often this is called and by however many rules it won; its
    tags are those of the last call.

    Args:
        uri: see `mlflow_log.tracking_uri`.
        experiment: name of the experiment.
        exported: rule -> bundle.
        timeout_s: longest wait for a locked database, in seconds.

    Returns:
        Rule -> number of its version.

    Raises:
        MinivessError: MV-TRACK-001 the store cannot be reached, MV-TRACK-003 it lacks a run.
    """
    name = exported_name(experiment)
    with exclusive(uri), connection(uri, timeout_s) as client:
        runs = current_runs(client, experiment)
        missing = sorted({str(one.run) for one in exported.values() if one.run not in runs})
        if missing:
            raise lacking(uri, experiment, missing, "exported champions of ")
        versions = _versions(client, name)
        numbers = {}
        for kind, one in exported.items():
            if one.model_sha256 not in versions:
                versions[one.model_sha256] = client.create_model_version(
                    name,
                    one.source,
                    runs[one.run].info.run_id,
                    tags={RUN_TAG: str(one.run), ONNX_TAG: one.model_sha256},
                    description=one.description,
                )
            numbers[kind] = str(versions[one.model_sha256].version)
            for tag, value in one.tags.items():
                client.set_model_version_tag(name, numbers[kind], tag, value)
            for alias in (kind, *([CHAMPION] if kind == OF_ALL else [])):
                client.set_registered_model_alias(name, alias, numbers[kind])
    return numbers


def _versions(client: MlflowClient, name: str) -> dict[str, ModelVersion]:
    """Versions by ONNX file; the model is created where it is missing."""
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    found = client.search_model_versions(f"name='{name}'")
    return {version.tags.get(ONNX_TAG, ""): version for version in found}
