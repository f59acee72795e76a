"""Profiles of networks: what they say reaches the steps that use it, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minivess.config.load import load_step, resolve_mapping, write_step_files
from minivess.config.profiles import TERMS, Budget, ModelProfile, read_profile
from minivess.config.schema import Experiment
from minivess.errors import MinivessError
from minivess.steps.deploy_card import terms_of

AUTO = {"patch_size": "auto"}


def own_profile(folder: Path, **changed: Any) -> Path:
    """A file with a profile of one's own."""
    values = read_profile("vesselfm").model_dump(mode="json") | changed
    file = folder / "mine.yaml"
    file.write_text("".join(f"{key}: {value!r}\n" for key, value in values.items()), "utf-8")
    return file


def experiment(profile: Path, patches: dict[str, Any]) -> Experiment:
    network = {"architecture": "vesselfm", "weights": "a.pt", "profile": str(profile)}
    values = {"name": "x", "models": {"fm": network, "plain": {}}, "patches": patches}
    return resolve_mapping(values, {}, "test")


def texts(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}


@pytest.mark.parametrize("patches", [{}, AUTO])
def test_other_terms_make_the_cards_anew_and_train_nothing(
    patches: dict[str, Any], tmp_path: Path
) -> None:
    configs = tmp_path / "config"
    write_step_files(experiment(own_profile(tmp_path, licence="MIT"), patches), configs)
    before = texts(configs)
    file = own_profile(tmp_path, licence="CC-BY-4.0", trained_on=["my mice"])
    write_step_files(experiment(file, patches), configs)
    after = texts(configs)
    assert {name for name in after if after[name] != before[name]} == {"deploy", "experiment"}
    record: dict[str, Any] = {"model": "fm", "network": {"config": {"weights": "a.pt"}}}
    terms = terms_of(record, load_step(configs / "deploy.yaml"))
    assert terms == read_profile(str(file))
    assert (terms.licence, terms.trained_on) == ("CC-BY-4.0", ("my mice",))
    assert (
        terms_of({"model": "plain", "network": {"config": {}}}, load_step(configs / "deploy.yaml"))
        is None
    )


def test_a_training_is_given_the_budget_where_it_decides(tmp_path: Path) -> None:
    profile = own_profile(tmp_path, budget_mb=123)
    write_step_files(experiment(profile, AUTO), tmp_path)
    found = load_step(tmp_path / "train-fm.yaml").models["fm"].profile
    assert type(found) is Budget
    assert found.budget_mb == 123
    write_step_files(experiment(profile, {}), tmp_path)
    assert load_step(tmp_path / "train-fm.yaml").models["fm"].profile is None


def test_without_a_name_the_terms_are_those_of_the_architecture() -> None:
    values = {"name": "x", "models": {"fm": {"architecture": "vesselfm", "weights": "a.pt"}}}
    found = resolve_mapping(values, {}, "test").models
    assert found["fm"].profile == read_profile("vesselfm")


def test_a_profile_of_another_architecture_is_refused(tmp_path: Path) -> None:
    profile = own_profile(tmp_path, architecture="dynunet")
    for named in ("dynunet", str(profile), read_profile("dynunet").model_dump(mode="json")):
        network = {"architecture": "vesselfm", "weights": "a.pt", "profile": named}
        with pytest.raises(MinivessError, match="architecture dynunet") as caught:
            resolve_mapping({"name": "x", "models": {"fm": network}}, {}, "test")
        assert caught.value.code == "MV-CONFIG-004"


@pytest.mark.parametrize("missing", sorted(TERMS))
def test_terms_are_never_left_out(missing: str) -> None:
    profile = read_profile("dynunet").model_dump(mode="json")
    del profile[missing]
    assert set(profile) < set(ModelProfile.model_fields)
    values = {"name": "x", "models": {"net": {"profile": profile}}, "patches": AUTO}
    with pytest.raises(MinivessError, match=missing) as caught:
        resolve_mapping(values, {}, "test")
    assert caught.value.code == "MV-CONFIG-002"
