"""Deployment settings through Dynaconf: where servers are, what the service accepts.

Nothing here changes a result, and nothing else asks the environment where a server is.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import provenance
from minivess.errors import MinivessError, nearest

if TYPE_CHECKING:
    from dynaconf import Dynaconf, Validator

FOLDER = Path("configs/deploy")
FILE, SECRETS = "settings.toml", ".secrets.toml"
ENVIRONMENTS = ("local", "server", "ci")
ENVIRONMENT_VARIABLE = "MINIVESS_ENV"
PREFIX = "MINIVESS_DEPLOY"
# Variables that the tools read themselves: they win, so that all of us mean the same server.
OF_TOOLS = {"mlflow_uri": "MLFLOW_TRACKING_URI", "prefect_api_url": "PREFECT_API_URL"}


def _about(meaning: str, **bounds: float) -> dict[str, Any]:
    return {"meaning": meaning, "bounds": bounds}


@dataclass(frozen=True)
class Settings:
    """The settings of one environment."""

    environment: str
    mlflow_uri: str = field(metadata=_about("tracking store: a database or an MLflow server"))
    prefect_api_url: str = field(
        metadata=_about("API of the Prefect server; empty: flows run without a server")
    )
    prefect_port: int = field(
        metadata=_about("port of the Prefect server of `just flows`", gte=1, lte=65535)
    )
    host: str = field(
        metadata=_about("address that the service listens on; the page is on this machine alone")
    )
    service_port: int = field(metadata=_about("port of the segmentation service", gte=1, lte=65535))
    page_port: int = field(metadata=_about("port of the page for people", gte=1, lte=65535))
    token: str = field(repr=False, metadata=_about("what requests must carry; empty: nothing"))
    max_upload_mb: int = field(metadata=_about("largest upload, in MiB", gte=1))
    max_voxels: int = field(metadata=_about("most voxels of a volume", gte=1))
    max_seconds: int = field(metadata=_about("longest time for one volume, in s", gte=1))
    max_concurrency: int = field(metadata=_about("volumes segmented side by side", gte=1))
    max_queue: int = field(
        metadata=_about("requests that may wait; further ones are refused", gte=0)
    )
    threads: int = field(metadata=_about("threads of one segmentation", gte=1))
    flow_retries: int = field(
        metadata=_about("how often a flow is tried again after a system error", gte=0)
    )
    flow_retry_delay_s: float = field(metadata=_about("time between these tries, in s", gte=0))


KEYS = tuple(one.name for one in fields(Settings) if one.name != "environment")
TEXTS = tuple(one.name for one in fields(Settings) if one.name in KEYS and one.type == "str")


def load_settings(environment: str | None = None) -> Settings:
    """The deployment settings: files, then variables, each checked.

    The project's `configs/deploy/settings.toml` comes first, the one of the working folder over it,
    `.secrets.toml` beside each over that, and variables over all.

    Args:
        environment: local, server or ci; none: what MINIVESS_ENV says, else local.

    Raises:
        MinivessError: MV-CONFIG-001 unknown key, MV-CONFIG-002 value of the wrong type or out of
            bounds, MV-CONFIG-003 unknown environment, MV-CONFIG-005 a file that is not TOML,
            MV-DATA-001 no file at all.

    >>> load_settings("ci").prefect_port
    4200
    """
    name = environment or os.environ.get(ENVIRONMENT_VARIABLE, "").strip() or ENVIRONMENTS[0]
    _check_name(name, ENVIRONMENTS, "environment", f"variable {ENVIRONMENT_VARIABLE}")
    files = _files()
    for path in files:
        _check_file(path)
    for key in _variables():
        _check_key(key, f"variable {PREFIX}_{key.upper()}")
    values = _values(name, files)
    for key, variable in OF_TOOLS.items():
        values[key] = os.environ.get(variable, "").strip() or values[key]
    return Settings(name, **values)


def project_values(environment: str) -> dict[str, Any]:
    """What the project's own file says for an environment, without variables and secrets.

    >>> project_values("local")["host"]
    '127.0.0.1'
    """
    path = provenance.PACKAGE.parent / FOLDER / FILE
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return {**content["default"], **content[environment]}


def _files() -> list[Path]:
    folders = list(dict.fromkeys([provenance.PACKAGE.parent / FOLDER, FOLDER.absolute()]))
    if not any((folder / FILE).is_file() for folder in folders):
        raise MinivessError(
            "MV-DATA-001",
            what="there are no deployment settings",
            where=str(FOLDER.absolute() / FILE),
            fix="go to the project's folder first",
        )
    paths = [folder / name for folder in folders for name in (FILE, SECRETS)]
    return [path for path in paths if path.is_file()]


def _check_file(path: Path) -> None:
    """Sections and keys of a file are known: Dynaconf itself ignores what nobody asks for."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MinivessError(
            "MV-CONFIG-005",
            what="the settings file is not valid TOML",
            where=str(path),
            found=str(error),
            fix="correct that line",
        ) from error
    for section, values in content.items():
        _check_name(section, ("default", *ENVIRONMENTS), "environment", str(path))
        for key in values if isinstance(values, dict) else [section]:
            _check_key(key, f"{path} [{section}]")


def _check_name(name: str, known: tuple[str, ...], kind: str, where: str) -> None:
    if name not in known:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no {kind} {name}",
            where=where,
            fix=nearest(name, known),
        )


def _check_key(key: str, where: str) -> None:
    if key not in KEYS:
        raise MinivessError(
            "MV-CONFIG-001",
            what=f"unknown setting {key}",
            where=where,
            found=key,
            fix=nearest(key, KEYS),
        )


def _validators() -> list[Validator]:
    from dynaconf import Validator

    kinds = {"str": str, "int": int, "float": (int, float)}
    return [
        Validator(
            one.name,
            must_exist=True,
            # TOML's true is one of Python's whole numbers.
            condition=lambda value: not isinstance(value, bool),
            is_type_of=kinds[str(one.type)],
            **one.metadata["bounds"],
        )
        for one in fields(Settings)
        if one.name in KEYS
    ]


def _values(environment: str, files: list[Path]) -> dict[str, Any]:
    from dynaconf import Dynaconf, ValidationError

    settings = Dynaconf(
        settings_files=[str(path) for path in files],
        environments=True,
        force_env=environment,
        envvar_prefix=PREFIX,
        load_dotenv=False,
    )
    for variable, text in _variables().items():
        # Dynaconf reads a variable as TOML: a token of digits would be a number.
        if variable in TEXTS and not isinstance(settings.get(variable), str):
            settings.set(variable, text)
    settings.validators.register(*_validators())
    try:
        settings.validators.validate_all()
    except ValidationError as error:
        raise MinivessError(
            "MV-CONFIG-002",
            what=f"{len(error.details)} setting(s) missing, of the wrong type or out of bounds",
            where=f"environment {environment}: " + _origins(settings, error, files),
            found="; ".join(_without_secret(one.names, text) for one, text in error.details),
            fix="docs/reference/settings.md lists every setting with its type and bounds",
        ) from None  # Dynaconf's own text would show a secret
    return {key: settings[key] for key in KEYS}


def _variables() -> dict[str, str]:
    """Texts of the variables that override settings, by setting."""
    start = f"{PREFIX}_"
    return {
        variable.removeprefix(start).lower(): text
        for variable, text in os.environ.items()
        if variable.startswith(start)
    }


def _without_secret(names: Iterable[str], text: object) -> str:
    if "token" in names:
        return 'token is not a text: write it in quotes, token = "..." (its value is not shown)'
    return str(text)


def _origins(settings: Dynaconf, error: Any, files: list[Path]) -> str:
    """Files and variables that the refused values came from."""
    from dynaconf.utils.inspect import get_history

    found: list[str] = []
    for validator, _ in error.details:
        for key in validator.names:
            read = [one for one in get_history(settings) if one["loader"] != "set_method"]
            made = [one for one in read if key.upper() in one["value"]]
            last = made[-1] if made else {"loader": "", "identifier": ", ".join(map(str, files))}
            variable = last["loader"] == "env_global"
            found.append(f"variable {PREFIX}_{key.upper()}" if variable else last["identifier"])
    return ", ".join(dict.fromkeys(found))
