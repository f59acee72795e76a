"""From an experiment file and overrides to a checked `Experiment`, and to one file per step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from minivess import output
from minivess.config import stores
from minivess.config.analysis import ANALYSES, resolve_plan
from minivess.config.contradictions import check_contradictions
from minivess.config.files import bad_values, read_yaml
from minivess.config.keys import PRESETS, check_keys, sections_of, unknown_key
from minivess.config.models import own_keys
from minivess.config.profiles import PROFILES, budget_alone, is_automatic, resolve_profiles
from minivess.config.schema import Experiment
from minivess.errors import MinivessError, nearest

EXPERIMENTS = Path("configs/experiment")

FOLDS_CHECKED = ("n_folds", "folds_file", "test_cases")
# What each step reads, whole sections or single keys: a change of anything else leaves its file,
# and so its outputs, alone.
STEP_SECTIONS: dict[str, tuple[str, ...]] = {
    "phantom": ("phantom", "folds.test_cases"),
    "manifest": ("data", "phantom", "folds.test_cases"),
    "validate": (
        "data",
        *(f"folds.{key}" for key in FOLDS_CHECKED),
        "patches.patch_size",
        "patches.pad_thin",
    ),
    "preprocess": ("data", "preprocess"),
    "folds": ("folds",),
    "train": ("patches", "augment", "loss", "training", "compute"),
    "predict": ("inference", "compute"),
    "evaluate": ("evaluation",),
    "ensembles": ("ensembles", "inference", "evaluation", "compute"),
    "compare": ("statistics",),
    "calibrate": ("calibration", "conformal", "inference", "compute"),
    "figure": ("statistics",),
    "deploy_onnx": ("preprocess", "inference", "deploy.variants"),
    "deploy_parity": ("preprocess", "inference", "compute", "deploy.variants"),
    "deploy": ("data", "preprocess", "inference", "statistics", "deploy"),
    "external": ("phantom", "preprocess", "inference", "compute", "evaluation", "statistics"),
}

# What decides a result on cases that no fold has, besides the networks and the volumes.
UNSEEN_SECTIONS = ("data", "phantom", "preprocess", "inference", "evaluation", "statistics")


def experiment_names(folder: Path = EXPERIMENTS) -> list[str]:
    """Names of the experiment files."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def resolve(
    name: str, overrides: Mapping[str, Any] | None = None, folder: Path = EXPERIMENTS
) -> Experiment:
    """The checked experiment `name`, with overrides.

    Args:
        name: name of a file in `folder`, or path of a YAML file.
        overrides: section names with mappings, top-level keys, dotted keys, or bare names of keys
            that only one section has (`epochs`).

    Raises:
        MinivessError: MV-CONFIG-001 unknown key, -002 bad value, -003 unknown experiment or preset,
            -004 values that contradict each other, -005 not YAML.
    """
    path = experiment_file(name, folder)
    plans = folder.parent / ANALYSES.name
    return resolve_mapping(
        {"name": path.stem, **read_yaml(path)}, overrides or {}, str(path), plans
    )


def experiment_file(name: str, folder: Path = EXPERIMENTS) -> Path:
    """The file of an experiment.

    Raises:
        MinivessError: MV-CONFIG-003 there is none.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no experiment {name}",
            where=str(path),
            fix=nearest(name, experiment_names(folder)),
        )
    return path


def resolve_mapping(
    values: Mapping[str, Any],
    overrides: Mapping[str, Any],
    where: str,
    plans: Path = ANALYSES,
) -> Experiment:
    """Presets of the stores, then the file's values, then the overrides, checked as a whole.

    The name of the analysis file, in the folder `plans`, is replaced by what the file says.

    Raises:
        MinivessError: as `resolve`.
    """
    merged = with_overrides(values, overrides, where)
    presets = merged.pop(PRESETS, None) or {}
    models = merged.pop("models", None) or {"dynunet": {}}
    base = {group: _preset(group, presets.get(group), where) for group in stores.SECTIONS}
    model = base.pop("model")
    base["models"] = {name: _network(model, keys or {}) for name, keys in models.items()}
    # A file, not a preset with single keys changed: what was registered is all there or not at all.
    base["statistics"]["plan"] = "default"
    made = merge(base, merged)
    check_contradictions(made, where)
    resolved = resolve_plan(made, plans, where)
    made = resolve_profiles(resolved, plans.parent / PROFILES.name, where)
    return _validated(made, f"{where}, with overrides" if overrides else where)


def with_overrides(
    values: Mapping[str, Any], overrides: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """The values of an experiment's file with overrides in their places; every key is checked.

    Raises:
        MinivessError: MV-CONFIG-001 unknown key, -002 a value where more keys should be.
    """
    check_keys(values, where)
    merged = merge({}, values)
    for key, value in overrides.items():
        own = placed(key, _plain(value))
        check_keys(own, "overrides")
        merged = merge(merged, own)
    return merged


def _network(preset: Mapping[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of a network over those of the preset that its architecture has."""
    merged = merge(preset, keys)
    return merge(own_keys(str(merged["architecture"]), preset), keys)


def placed(key: str, value: Any) -> dict[str, Any]:
    """An override in its place.

    Raises:
        MinivessError: MV-CONFIG-001 no section, or more than one, has a key of that name.

    >>> placed("epochs", 3) == placed("training.epochs", 3) == {"training": {"epochs": 3}}
    True
    """
    if "." in key:
        first, rest = key.split(".", 1)
        return {first: nested(rest, value)}
    if key in Experiment.model_fields or key == PRESETS:
        return {key: value}
    sections = sections_of(key)
    if len(sections) == 1:
        return {sections[0]: {key: value}}
    leaves = {leaf for section in stores.SECTIONS.values() for leaf in section.model_fields}
    raise unknown_key(key, leaves | set(Experiment.model_fields), "overrides")


def nested(key: str, value: Any) -> dict[str, Any]:
    """A dotted key as nested mappings.

    >>> nested("patches.batch_size", 4)
    {'patches': {'batch_size': 4}}
    """
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged key by key, at every depth; the second one wins.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _preset(group: str, name: Any, where: str) -> dict[str, Any]:
    wanted = name or stores.DEFAULT
    names = stores.preset_names(group)
    if wanted not in names:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no preset {wanted} of {group}",
            where=f"{where}, {PRESETS}.{group}",
            fix=nearest(str(wanted), names),
        )
    return preset_values(group, wanted)


def preset_values(group: str, name: str) -> dict[str, Any]:
    """Every key of a section as one of its presets sets it.

    >>> preset_values("augment", "none")["flip_probability"]
    0.0
    """
    from omegaconf import OmegaConf

    node = OmegaConf.to_container(OmegaConf.create(stores.store.get_entry(group, name)["node"]))
    assert isinstance(node, dict)
    return _without_targets(node)


def _without_targets(node: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        str(key): _without_targets(value) if isinstance(value, Mapping) else value
        for key, value in node.items()
        if key != "_target_"
    }


def _plain(value: Any) -> Any:
    """Snakemake hands nested values over as text; the word `null` among them is None."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if value == "null" else value


def _validated(values: Mapping[str, Any], where: str) -> Experiment:
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise bad_values(error, where) from error


def as_yaml(values: Mapping[str, Any]) -> str:
    """Canonical YAML text: sorted keys, so that equal configs are equal bytes."""
    texts = (
        str(yaml.safe_dump(dict(values), sort_keys=True, allow_unicode=readable, width=100))
        for readable in (True, False)
    )
    # The next-line character is the one that PyYAML writes as it is and reads as a blank.
    return next(text for text in texts if "\x85" not in text)


def digest(text: str) -> str:
    """SHA-256 of a text, the form in which configs are compared."""
    return hashlib.sha256(text.encode()).hexdigest()


def step_values(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """For each step file (name without suffix) the sections it holds, as plain values."""
    dump = experiment.model_dump(mode="json")
    files: dict[str, dict[str, Any]] = {"experiment": dump}
    for step, sections in STEP_SECTIONS.items():
        values: dict[str, Any] = {"name": experiment.name}
        for place in sections:
            section, _, key = place.partition(".")
            part = nested(place, dump[section][key]) if key else {section: dump[section]}
            values = merge(values, part)
        if step == "train":
            for model in experiment.models:
                own = budget_alone(dump["models"][model], is_automatic(dump["patches"]))
                files[f"train-{model}"] = {**values, "models": {model: own}}
        elif step == "figure":
            for figure, look in dump["figures"].items():
                files[f"figure-{figure}"] = {**values, "figures": {figure: look}}
        elif step == "external":
            for other, data in dump["external"].items():
                files[f"external-{other}"] = {**values, "external": {other: data}}
        elif step == "deploy":
            files[step] = {**values, **_terms(dump["models"])}
        else:
            files[step] = values
    return files


def _terms(models: Mapping[str, Any]) -> dict[str, Any]:
    """The profiles of the networks that start from weights: model cards say what is in them."""
    begun = {name: keys for name, keys in models.items() if keys.get("weights") is not None}
    kept = ("architecture", "profile")
    terms = {name: {key: keys[key] for key in kept} for name, keys in begun.items()}
    return {"models": terms} if terms else {}


def write_step_files(experiment: Experiment, folder: Path) -> None:
    """Write the resolved config of each step; a file that would not change is not touched."""
    for step, values in step_values(experiment).items():
        path, text = folder / f"{step}.yaml", as_yaml(values)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            output.write_text(text, path)


def load_step(path: Path) -> Experiment:
    """The config of a step: an `Experiment` that has only the sections in the file.

    Reading a section that the file lacks raises AttributeError: a step cannot use a default where
    the researcher's value was meant.

    Raises:
        MinivessError: MV-STATE-002 no such file, MV-CONFIG-005 not YAML, MV-CONFIG-001 or -002
            where somebody edited it.
    """
    if not path.exists():
        raise MinivessError(
            "MV-STATE-002",
            what="the step has no config yet",
            where=str(path),
            fix="run the experiment, or only what comes before the training: "
            "just experiment NAME prepared_cases",
        )
    values = read_yaml(path)
    check_keys(values, str(path))
    experiment = Experiment.model_construct(name="")
    experiment.__dict__.clear()
    for key, value in values.items():
        kind: Any = Experiment.model_fields[key].annotation
        try:
            experiment.__dict__[key] = TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            raise bad_values(error, str(path), key) from error
    return experiment
