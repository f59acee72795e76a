"""compose.yaml: closed to the network, healthy before it is used, results out of the container."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
FILE = PROJECT / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def filled(text: str) -> str:
    """Variables replaced by their defaults; one without a default is an error."""
    text = VARIABLE.sub(lambda match: match[2], text)
    assert "${" not in text
    return text


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load(filled(FILE.read_text(encoding="utf-8")))["services"])


def test_the_services(services: dict[str, Any]) -> None:
    assert set(services) == {"workflow", "workflow-gpu", "mlflow", "prefect", "database"}
    assert services["workflow"]["command"] == ["snakemake", "--cores", "all"]
    images = {name: service["image"] for name, service in services.items()}
    assert images.pop("database") == "postgres:17"
    assert set(images.values()) == {"minivess"}


def test_all_are_as_closed_as_they_can_be(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert "/tmp" in service["tmpfs"], name
        assert service["init"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), "from this machine only"


def test_prefect_writes_where_it_may(services: dict[str, Any]) -> None:
    """It wants to put its pages beside its own code, which is read-only."""
    values = services["prefect"]["environment"]
    assert values["PREFECT_HOME"] == "/data"
    assert values["PREFECT_SERVER_UI_STATIC_DIRECTORY"].startswith("/tmp/")


def test_prefect_keeps_its_runs_in_a_database_that_only_it_reaches(
    services: dict[str, Any],
) -> None:
    from sqlalchemy.engine import make_url

    database, prefect = services["database"], services["prefect"]
    url = make_url(prefect["environment"]["PREFECT_SERVER_DATABASE_CONNECTION_URL"])
    values = database["environment"]
    assert (url.drivername, url.host, url.port) == ("postgresql+asyncpg", "database", 5432)
    assert (url.username, url.password) == (values["POSTGRES_USER"], values["POSTGRES_PASSWORD"])
    assert url.database == values["POSTGRES_DB"]
    assert "ports" not in database
    assert database["networks"] == ["database"]
    assert prefect["networks"] == ["default", "database"]
    assert prefect["depends_on"] == {"database": {"condition": "service_healthy"}}
    networks = yaml.safe_load(filled(FILE.read_text(encoding="utf-8")))["networks"]
    assert networks["database"]["internal"]


@pytest.mark.parametrize(("name", "port"), [("mlflow", 5000), ("prefect", 4200)])
def test_servers_are_checked_on_the_port_they_listen_on(
    services: dict[str, Any], name: str, port: int
) -> None:
    service = services[name]
    assert str(port) in " ".join(service["command"])
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"127.0.0.1:{port}/" in service["healthcheck"]["test"][-1]
    assert service["volumes"] == [f"{name}:/data"], "what it keeps outlives the container"


def test_the_workflow_waits_for_the_server_that_it_tracks_to(services: dict[str, Any]) -> None:
    for name in ("workflow", "workflow-gpu"):
        service = services[name]
        assert service["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
        assert service["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
        hosts = " ".join(services["mlflow"]["command"])
        assert "--allowed-hosts=mlflow:5000," in hosts, "MLflow refuses names it does not know"
        assert service["volumes"] == [".:/work"]


def test_workers_get_more_shared_memory_than_containers_have(services: dict[str, Any]) -> None:
    from minivess.config.schema import ComputeConfig, PatchConfig
    from minivess.training.shared_memory import check_shared_memory

    size = re.fullmatch(r"(\d+)gb", services["workflow"]["shm_size"])
    assert size is not None
    # Eight workers with the largest patches that a training on one GPU is likely to have.
    patches = PatchConfig(patch_size=(256, 256, 32), batch_size=4)
    check_shared_memory(patches, ComputeConfig(workers=8), int(size[1]) * 1024**3)


def test_only_the_gpu_service_asks_for_a_gpu(services: dict[str, Any]) -> None:
    gpu = services["workflow-gpu"]
    assert gpu["profiles"] == ["gpu"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == [["gpu"]] or device["capabilities"] == ["gpu"]
    assert not [name for name, one in services.items() if "deploy" in one and one is not gpu]


def compose() -> list[str]:
    """The command of Compose, as a plugin or as a program."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "version"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    pytest.skip("Docker Compose is missing")


def test_compose_reads_it(services: dict[str, Any]) -> None:
    done = subprocess.run(
        [*compose(), "--file", str(FILE), "--profile", "gpu", "config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(services)
