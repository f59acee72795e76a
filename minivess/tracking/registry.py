"""Champions in MLflow's model registry: a version for each winning run, an alias for each rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minivess import paths
from minivess.tracking.export import current_runs, lacking
from minivess.tracking.mlflow_log import RUN_TAG
from minivess.tracking.store import LOCK_TIMEOUT_S, connection, exclusive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from minivess.types import RunKey

CHAMPION_TAG = "minivess.champion"
WEIGHTS_TAG = "minivess.weights_sha256"


def model_name(experiment: str) -> str:
    """Name of an experiment's model in the registry.

    >>> model_name("demo")
    'minivess.demo'
    """
    return f"minivess.{experiment}"


def register_champions(
    uri: str,
    experiment: str,
    winners: Mapping[str, tuple[RunKey, str]],
    timeout_s: float = LOCK_TIMEOUT_S,
) -> dict[str, str]:
    """Give each rule's alias to a version of the experiment's model; return their numbers.

    A run and its weights are one version, however often this is called. Runs that win are tagged
    with the rules they win by, others lose that tag.

    Args:
        uri: see `mlflow_log.tracking_uri`.
        experiment: name of the experiment.
        winners: rule -> run and SHA-256 of its weights.
        timeout_s: longest wait for a locked database, in seconds.

    Raises:
        MinivessError: MV-TRACK-001 the store cannot be reached, MV-TRACK-003 it lacks a run.
    """
    name = model_name(experiment)
    with exclusive(uri), connection(uri, timeout_s) as client:
        logged = current_runs(client, experiment)
        missing = sorted({str(run) for run, _ in winners.values() if run not in logged})
        if missing:
            raise lacking(uri, experiment, missing, "champions of ")
        _tag_runs(client, logged, winners)
        versions = _model_versions(client, name)
        numbers = {}
        for kind, (key, digest) in winners.items():
            identity = (str(key), digest)
            if identity not in versions:
                run_id = logged[key].info.run_id
                versions[identity] = _new_version(client, experiment, key, digest, run_id)
            numbers[kind] = str(versions[identity].version)
            client.set_registered_model_alias(name, kind, numbers[kind])
    return numbers


def _tag_runs(
    client: MlflowClient, logged: Mapping[RunKey, Run], winners: Mapping[str, tuple[RunKey, str]]
) -> None:
    """Tag the runs that win with the rules they win by, and no others."""
    for key, run in logged.items():
        wanted = ",".join(sorted(kind for kind, (winner, _) in winners.items() if winner == key))
        if wanted:
            client.set_tag(run.info.run_id, CHAMPION_TAG, wanted)
        elif CHAMPION_TAG in run.data.tags:
            client.delete_tag(run.info.run_id, CHAMPION_TAG)


def _model_versions(client: MlflowClient, name: str) -> dict[tuple[str, str], ModelVersion]:
    """Versions of a model by run and weights; the model is created where it is missing."""
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    found = client.search_model_versions(f"name='{name}'")
    return {
        (version.tags.get(RUN_TAG, ""), version.tags.get(WEIGHTS_TAG, "")): version
        for version in found
    }


def _new_version(
    client: MlflowClient, experiment: str, key: RunKey, digest: str, run_id: str
) -> ModelVersion:
    # Relative: artifacts stay in results/, wherever that folder is.
    source = paths.run_folder(paths.experiment_folder(experiment), key).as_posix()
    tags = {RUN_TAG: str(key), WEIGHTS_TAG: digest}
    return client.create_model_version(model_name(experiment), source, run_id, tags=tags)
