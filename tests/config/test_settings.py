"""Deployment settings: every key reaches the settings, every mistake is named at the start."""

from __future__ import annotations

import ast
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from minivess import provenance
from minivess.config import settings
from minivess.config.settings import KEYS, OF_TOOLS, Settings, load_settings
from minivess.errors import MinivessError

PACKAGE = provenance.PACKAGE
# Modules that read the environment for what is no deployment: the address of a process's
# neighbours (torchrun), the lock's holder, the image's commit, the paper's folder and date.
READERS = {
    "config/settings.py",
    "paper.py",
    "provenance.py",
    "steps/paper.py",
    "steps/train.py",
    "training/launch.py",
    "workflow.py",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a place for settings, and no variable from outside."""
    for variable in (*OF_TOOLS.values(), settings.ENVIRONMENT_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / settings.FOLDER).mkdir(parents=True)
    return tmp_path / settings.FOLDER


def refused(code: str) -> str:
    with pytest.raises(MinivessError) as caught:
        load_settings()
    assert caught.value.code == code
    return str(caught.value)


def other_value(key: str) -> Any:
    kind = {one.name: one.type for one in fields(Settings)}[key]
    return {"str": "sqlite:///other.db", "int": 7, "float": 0.5}[str(kind)]


def as_toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_reaches_the_settings_from_file_secrets_and_variable(
    key: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = getattr(load_settings(), key)
    assert before != other_value(key)
    (folder / "settings.toml").write_text(f"[local]\n{key} = {as_toml(other_value(key))}\n")
    assert getattr(load_settings(), key) == other_value(key)
    assert getattr(load_settings("ci"), key) != other_value(key)
    (folder / "settings.toml").unlink()
    (folder / ".secrets.toml").write_text(f"[default]\n{key} = {as_toml(other_value(key))}\n")
    assert getattr(load_settings(), key) == other_value(key)
    (folder / ".secrets.toml").unlink()
    monkeypatch.setenv(f"MINIVESS_DEPLOY_{key.upper()}", str(other_value(key)))
    assert getattr(load_settings(), key) == other_value(key)


def test_variables_of_the_tools_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIVESS_DEPLOY_MLFLOW_URI", "sqlite:///ours.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    loaded = load_settings()
    assert loaded.mlflow_uri == "http://mlflow:5000"
    assert loaded.prefect_api_url == "http://prefect:4200/api"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "  ")
    assert load_settings().mlflow_uri == "sqlite:///ours.db"


def test_the_environment_is_chosen_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().environment == "local"
    monkeypatch.setenv("MINIVESS_ENV", "server")
    assert load_settings().host == "0.0.0.0"
    assert load_settings("ci").environment == "ci", "what a caller names wins"
    monkeypatch.setenv("MINIVESS_ENV", "sever")
    text = refused("MV-CONFIG-003")
    assert "did you mean server?" in text
    assert "MINIVESS_ENV" in text


def test_an_unknown_key_is_an_error_with_the_nearest_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "settings.toml").write_text("[server]\nmax_voxel = 3\n")
    text = refused("MV-CONFIG-001")
    assert "did you mean max_voxels?" in text
    assert f"{folder / 'settings.toml'} [server]" in text
    (folder / "settings.toml").write_text("[sever]\nmax_voxels = 3\n")
    assert "did you mean server?" in refused("MV-CONFIG-003")
    (folder / "settings.toml").unlink()
    monkeypatch.setenv("MINIVESS_DEPLOY_PORT", "80")
    text = refused("MV-CONFIG-001")
    assert "variable MINIVESS_DEPLOY_PORT" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("service_port", "70000"),
        ("service_port", "0"),
        ("service_port", '"http"'),
        ("max_queue", "-1"),
        ("threads", "true"),
        ("threads", "1.5"),
        ("flow_retry_delay_s", '"soon"'),
    ],
)
def test_a_wrong_value_is_named_with_where_it_stands(
    key: str, value: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "settings.toml").write_text(f"[local]\n{key} = {value}\n")
    text = refused("MV-CONFIG-002")
    assert key in text
    assert str(folder / "settings.toml") in text
    (folder / "settings.toml").unlink()
    monkeypatch.setenv(f"MINIVESS_DEPLOY_{key.upper()}", value)
    assert f"variable MINIVESS_DEPLOY_{key.upper()}" in refused("MV-CONFIG-002")


@pytest.mark.parametrize("text", ["20260717", "1e5", "007", "true", "[1]", "2026-07-17", '"12"'])
def test_a_text_from_a_variable_stays_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("token", "mlflow_uri"):
        monkeypatch.setenv(f"MINIVESS_DEPLOY_{key.upper()}", text)
        assert getattr(load_settings(), key) == text.strip('"')


def test_a_number_for_a_text_in_a_file_is_an_error_that_shows_no_secret(folder: Path) -> None:
    (folder / "settings.toml").write_text("[local]\nmlflow_uri = 5\n")
    assert "mlflow_uri" in refused("MV-CONFIG-002")
    (folder / "settings.toml").unlink()
    (folder / ".secrets.toml").write_text("[local]\ntoken = 20260717\nthreads = 0\n")
    with pytest.raises(MinivessError) as caught:
        load_settings()
    text = "".join(traceback.format_exception(caught.value))
    assert "20260717" not in text
    assert 'token = "..."' in text
    assert "threads" in text
    assert str(folder / ".secrets.toml") in text


def test_all_wrong_values_are_told_at_once(folder: Path) -> None:
    (folder / "settings.toml").write_text("[local]\nthreads = 0\nmax_seconds = 0\n")
    text = refused("MV-CONFIG-002")
    assert "2 setting(s)" in text
    assert "threads" in text
    assert "max_seconds" in text


def test_a_missing_key_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PACKAGE", folder / "minivess")
    assert "MV-DATA-001" in refused("MV-DATA-001")
    project = PACKAGE.parent / settings.FOLDER / "settings.toml"
    lines = project.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("page_port")]
    (folder / "settings.toml").write_text("\n".join(kept), encoding="utf-8")
    assert "page_port" in refused("MV-CONFIG-002")


def test_a_file_that_is_not_toml(folder: Path) -> None:
    (folder / ".secrets.toml").write_text("[local\n")
    assert ".secrets.toml" in refused("MV-CONFIG-005")
    (folder / ".secrets.toml").write_text("token = 1\n")
    assert "token" in refused("MV-CONFIG-003")


def test_the_token_is_not_shown(folder: Path) -> None:
    (folder / ".secrets.toml").write_text('[local]\ntoken = "confidential"\n')
    loaded = load_settings()
    assert loaded.token == "confidential"
    assert "confidential" not in repr(loaded)


def test_secrets_stay_out_of_git_and_images() -> None:
    for name in (".gitignore", ".dockerignore"):
        text = (PACKAGE.parent / name).read_text(encoding="utf-8")
        assert ".secrets.toml" in text


def test_nothing_else_reads_environment_variables() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
            if names and not written(node, path):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == READERS


def written(node: ast.AST, path: Path) -> bool:
    """Whether a line only sets variables for libraries, or hands all of them to a child."""
    assert isinstance(node, ast.Attribute)
    line = path.read_text(encoding="utf-8").splitlines()[node.lineno - 1].strip()
    setting = ("os.environ.update(", "os.environ.setdefault(", "os.environ.pop(", "os.environ[")
    return line.startswith(setting) or "**os.environ" in line or "or os.environ)" in line
