"""From experiment files and overrides to checked experiments and step files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from minivess.config import load, stores
from minivess.config.analysis import read_plan
from minivess.config.files import read_yaml
from minivess.config.keys import check_keys, keys, sections_of
from minivess.config.load import (
    STEP_SECTIONS,
    as_yaml,
    digest,
    experiment_names,
    load_step,
    resolve,
    resolve_mapping,
    step_values,
    write_step_files,
)
from minivess.config.schema import Experiment, FiguresConfig, StatisticsConfig, TrainingConfig
from minivess.errors import MinivessError

EXPERIMENTS = Path(__file__).parents[2] / "configs" / "experiment"


def resolved(values: dict[str, Any] | None = None, **overrides: Any) -> Experiment:
    return resolve_mapping({"name": "test", **(values or {})}, overrides, "here")


def refused(values: dict[str, Any] | None = None, **overrides: Any) -> MinivessError:
    with pytest.raises(MinivessError) as caught:
        resolved(values, **overrides)
    return caught.value


@pytest.mark.parametrize("name", experiment_names(EXPERIMENTS))
def test_every_experiment_of_the_project_resolves(name: str) -> None:
    experiment = resolve(name, folder=EXPERIMENTS)
    assert experiment.name == name
    values = yaml.safe_load((EXPERIMENTS / f"{name}.yaml").read_text(encoding="utf-8"))
    dump = experiment.model_dump(mode="json")
    for section, wanted in values.items():
        if section in ("losses", "seeds"):
            assert dump[section] == wanted
        elif section not in ("presets", "models"):
            assert {key: dump[section][key] for key in wanted} == wanted


def test_the_demo_is_among_them() -> None:
    assert {"demo", "minivess", "my_data"} <= set(experiment_names(EXPERIMENTS))


def test_an_experiment_may_be_a_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seeds: [4]\n", encoding="utf-8")
    assert resolve(str(file)).seeds == (4,)
    assert resolve(str(file)).name == "mine"


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    statistics = StatisticsConfig(plan=read_plan("default"))
    expected = Experiment(name="empty", statistics=statistics)
    assert resolve("empty", folder=tmp_path) == expected


def test_a_preset_sets_values_and_single_keys_override_it() -> None:
    experiment = resolved({"presets": {"training": "cpu"}, "training": {"epochs": 7}})
    assert experiment.training.epochs == 7
    assert experiment.training.learning_rate == 3e-3
    assert experiment.training.weight_decay == TrainingConfig().weight_decay


def test_the_preset_of_the_model_is_every_models_start() -> None:
    experiment = resolved(
        {
            "presets": {"model": "dynunet_small"},
            "models": {"a": None, "b": {"deep_supervision": True}, "c": {"filters": [2, 2, 2]}},
        }
    )
    assert experiment.models["a"].filters == experiment.models["b"].filters == (8, 16, 32)
    assert experiment.models["b"].deep_supervision
    assert experiment.models["c"].filters == (2, 2, 2)


def test_without_models_there_is_dynunet_with_the_preset() -> None:
    experiment = resolved({"presets": {"model": "dynunet_small"}})
    assert {name: model.filters for name, model in experiment.models.items()} == {
        "dynunet": (8, 16, 32)
    }


@pytest.mark.parametrize("section", [name for name in stores.SECTIONS if name != "model"])
@pytest.mark.parametrize("value", [None, "cpu", 3, []], ids=repr)
def test_a_section_that_holds_no_keys_is_refused(section: str, value: Any) -> None:
    overrides = [] if value is None else [refused(None, **{section: value})]
    for error in (refused({section: value}), *overrides):
        assert error.code == "MV-CONFIG-002"
        assert error.where.endswith(f", {section}")
        assert error.found == repr(value)
        assert ("take it out" in error.fix) == (value is None)


@pytest.mark.parametrize(
    "override",
    [
        {"epochs": 3},
        {"training.epochs": 3},
        {"training": {"epochs": 3}},
        {"training": {"epochs": "3"}},
        {"training.epochs": "3"},
    ],
    ids=str,
)
def test_a_key_can_be_overridden_in_every_form(override: dict[str, Any]) -> None:
    assert resolved({"training": {"epochs": 9}}, **override).training.epochs == 3


def test_later_overrides_keep_earlier_ones_of_the_same_section() -> None:
    experiment = resolved(
        None, **{"training.epochs": 3, "learning_rate": 0.5, "presets.augment": "none"}
    )
    assert (experiment.training.epochs, experiment.training.learning_rate) == (3, 0.5)
    assert experiment.augment.flip_probability == 0


def test_overrides_reach_models_and_figures() -> None:
    experiment = resolved(
        None,
        **{
            "models.dynunet.filters": [4, 4, 4],
            "figures.qualitative.width_mm": 90,
            "losses": ["dice_ce"],
        },
    )
    assert experiment.models["dynunet"].filters == (4, 4, 4)
    assert experiment.figures.qualitative.width_mm == 90
    assert experiment.losses == ("dice_ce",)


def snakemake_config(*pairs: str) -> dict[str, Any]:
    """What the real Snakemake makes of `--config`."""
    code = "import json, sys; from snakemake.cli import parse_config; "
    code += "print(json.dumps(parse_config(sys.argv[1:])))"
    made = subprocess.run(
        [sys.executable, "-c", code, *pairs], capture_output=True, text=True, check=True
    )
    return dict(yaml.safe_load(made.stdout))


def test_what_snakemake_makes_of_config_is_understood() -> None:
    config = snakemake_config(
        "epochs=4",
        "training={learning_rate: 0.01, weight_decay: 0}",
        "inference={window_size: null}",
        "patches={patch_size: [32, 32, 8]}",
        "models={dynunet: {filters: [4, 8, 16], deep_supervision: true}}",
        "data={source: csv, vessel_labels: [1, 255], exclude: [a, b]}",
    )
    assert isinstance(config["training"]["learning_rate"], str), "the case this is about"
    values = {"inference": {"window_size": [32, 32, 8]}}
    experiment = resolved(values, **config)
    assert experiment.training.epochs == 4
    assert (experiment.training.learning_rate, experiment.training.weight_decay) == (0.01, 0)
    assert experiment.inference.window_size is None
    assert experiment.patches.patch_size == (32, 32, 8)
    assert experiment.models["dynunet"].filters == (4, 8, 16)
    assert experiment.models["dynunet"].deep_supervision is True
    assert experiment.data.vessel_labels == (1, 255)
    assert experiment.data.exclude == ("a", "b")


@pytest.mark.parametrize(
    ("values", "suggestion"),
    [
        ({"trainings": {}}, "did you mean training?"),
        ({"training": {"epoch": 3}}, "did you mean epochs?"),
        ({"models": {"net": {"filter": [1, 2, 3]}}}, "did you mean filters?"),
        ({"figures": {"qualitativ": {}}}, "did you mean qualitative?"),
        ({"figures": {"qualitative": {"width": 90}}}, "did you mean width_mm?"),
        ({"presets": {"trainin": "cpu"}}, "did you mean training?"),
        ({"model": {"filters": [1, 2, 3]}}, "did you mean models?"),
        ({"epochs": 3}, "write training.epochs"),
        ({"training": {"photons": 3}}, "write phantom.photons"),
        ({"filters": [1, 2, 3]}, "write models.NAME.filters"),
        ({5: 1}, "known: "),
    ],
    ids=str,
)
def test_an_unknown_key_of_the_file_names_the_nearest(
    values: dict[Any, Any], suggestion: str
) -> None:
    error = refused(values)
    assert error.code == "MV-CONFIG-001"
    assert error.fix.startswith(suggestion)
    assert "here" in error.where


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("epoch", "did you mean epochs?"),
        ("trainings.epochs", "did you mean training?"),
        ("training.epoch", "did you mean epochs?"),
        ("models.net.filter", "did you mean filters?"),
        ("figures.qualitative.width", "did you mean width_mm?"),
        ("presets.trainin", "did you mean training?"),
        ("filters", "write models.NAME.filters"),
        ("width_mm", "write figures.loss_comparison.width_mm or "),
        ("", "known: "),
        ("training.", "known: "),
    ],
)
def test_an_unknown_key_of_an_override_names_the_nearest(override: str, suggestion: str) -> None:
    error = refused(None, **{override: 1})
    assert error.code == "MV-CONFIG-001"
    assert error.fix.startswith(suggestion)
    assert error.where.startswith("overrides")


def test_colours_of_the_heat_map_are_an_unknown_key() -> None:
    error = refused({"figures": {"fold_heatmap": {"colors": ["#000000"]}}})
    assert error.code == "MV-CONFIG-001"
    assert "figures.loss_comparison.colors" in error.fix
    assert "fold_heatmap" not in error.fix


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"losses": ["dice_ce "]}, "losses.0: "),
        ({"seeds": [-1]}, "seeds.0: "),
        ({"figures": {"forest": {"colors": ["red"]}}}, "figures.forest.colors.0: "),
        ({"losses": []}, "losses: "),
    ],
)
def test_a_list_with_a_bad_entry_is_not_called_empty(values: dict[str, Any], place: str) -> None:
    error = refused(values)
    assert error.what.startswith("1 config value(s)")
    assert error.found.startswith(place)


def test_a_bad_override_is_not_said_to_be_in_the_file_alone() -> None:
    with pytest.raises(MinivessError) as caught:
        resolve_mapping({"name": "x"}, {"epochs": "abc"}, "x.yaml")
    assert caught.value.where == "x.yaml, with overrides"
    assert refused({"training": {"epochs": "abc"}}).where == "here"


@pytest.mark.parametrize("device", ["gpu", "CUDA", "mps", "cuda:-1", "cuda:"])
def test_what_is_no_device_is_refused_at_once(device: str) -> None:
    error = refused({"compute": {"device": device}})
    assert error.code == "MV-CONFIG-002"
    assert error.found.startswith("compute.device: ")


def test_all_bad_values_are_in_one_error() -> None:
    error = refused(
        {
            "training": {"epochs": 0, "learning_rate": "fast"},
            "data": {"source": "tape"},
            "models": {"net": {"filters": [8, 16]}},
            "figures": {"qualitative": {"width_mm": 4}},
            "preprocess": {"clip_percentiles": [99, 1]},
            "losses": [],
        },
        patch_size=[0, 4, 4],
    )
    assert error.code == "MV-CONFIG-002"
    assert error.what.startswith("8 config value(s)")
    for key in (
        "training.epochs",
        "training.learning_rate",
        "data.source",
        "models.net.filters",
        "figures.qualitative.width_mm",
        "preprocess",
        "losses",
        "patches.patch_size.0",
    ):
        assert f"{key}: " in error.found
    assert "found 'tape'" in error.found


@pytest.mark.parametrize(
    "values",
    [
        {"training": 5},
        {"training": None},
        {"models": 5},
        {"models": {"net": 5}},
        {"models": {"net": "dynunet"}},
        {"models": {1: {}}},
        {"figures": ["qualitative"]},
        {"figures": {"qualitative": 5}},
        {"presets": "cpu"},
        {"presets": 5},
    ],
    ids=str,
)
def test_a_value_in_place_of_keys_is_a_bad_value(values: dict[str, Any]) -> None:
    assert refused(values).code == "MV-CONFIG-002"


@pytest.mark.parametrize("preset", ["gpu", 5, ["cpu"]])
def test_an_unknown_preset_names_the_known_ones(preset: Any) -> None:
    error = refused({"presets": {"training": preset}})
    assert error.code == "MV-CONFIG-003"
    assert "cpu" in error.fix
    assert "presets.training" in error.where


def test_an_unknown_experiment_names_the_nearest() -> None:
    with pytest.raises(MinivessError) as caught:
        resolve("dem", folder=EXPERIMENTS)
    assert caught.value.code == "MV-CONFIG-003"
    assert caught.value.fix == "did you mean demo?"


@pytest.mark.parametrize(
    "content",
    [b"a: [1", b"a: b: c", b"- 1\n- 2\n", b"text", b"\xff\xfe\x00", b"a: !!python/name:os"],
)
def test_what_is_no_yaml_mapping_is_said_with_its_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(MinivessError) as caught:
        resolve("bad", folder=tmp_path)
    assert caught.value.code == "MV-CONFIG-005"
    assert caught.value.where == str(file)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("training: {epochs: 3}\nloss: {}\ntraining: {learning_rate: 0.1}\n", "training", 3),
        ("losses: [dice_ce]\nlosses: [dice]\n", "losses", 2),
        ("training:\n  epochs: 3\n  epochs: 4\n", "epochs", 3),
        ("models: {a: {filters: [4]}, a: {filters: [8]}}\n", "a", 1),
    ],
)
def test_a_key_that_is_there_twice_is_an_error(
    tmp_path: Path, text: str, key: str, line: int
) -> None:
    file = tmp_path / "twice.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        read_yaml(file)
    assert caught.value.code == "MV-CONFIG-005"
    assert f"{key} is there twice" in caught.value.found
    assert f"line {line}," in caught.value.found


def test_anchors_and_merged_keys_are_no_repetition(tmp_path: Path) -> None:
    file = tmp_path / "merged.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\n", encoding="utf-8")
    assert read_yaml(file) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 1, "y": 2}}


def test_read_yaml_never_runs_code(tmp_path: Path) -> None:
    target = tmp_path / "made"
    file = tmp_path / "evil.yaml"
    file.write_text(f"a: !!python/object/apply:os.mkdir ['{target}']\n", encoding="utf-8")
    with pytest.raises(MinivessError):
        read_yaml(file)
    assert not target.exists()


# step files


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        path.stem: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.glob("*.yaml")
    }


def test_step_files_are_written_once_and_left_alone_while_equal(tmp_path: Path) -> None:
    write_step_files(resolved(), tmp_path)
    before = stamps(tmp_path)
    write_step_files(resolved(), tmp_path)
    assert stamps(tmp_path) == before
    wanted = (set(STEP_SECTIONS) - {"train", "figure", "external"}) | {
        "experiment",
        "train-dynunet",
    }
    assert set(before) == wanted | {f"figure-{name}" for name in FiguresConfig.model_fields}


EXPORTED = {"deploy", "deploy_onnx", "deploy_parity"}
CHANGES: dict[str, tuple[str, Any, set[str]]] = {
    "phantom": ("n_trees", 5, {"phantom", "manifest"}),
    "data": ("exclude", ["a"], {"manifest", "validate", "preprocess", "deploy"}),
    "preprocess": ("normalisation", "none", {"preprocess", *EXPORTED}),
    # Validation reads single keys of these two: others leave its file alone.
    "folds": ("folds_seed", 7, {"folds"}),
    "patches": ("batch_size", 5, {"train-dynunet"}),
    "augment": ("zoom", 0.4, {"train-dynunet"}),
    "loss": ("smooth", 2.0, {"train-dynunet"}),
    "training": ("epochs", 5, {"train-dynunet"}),
    "compute": (
        "threads",
        2,
        {"train-dynunet", "predict", "calibrate", "ensembles", "deploy_parity"},
    ),
    "inference": ("overlap", 0.1, {"predict", "calibrate", "ensembles", *EXPORTED}),
    "calibration": ("local_steps", 7, {"calibrate"}),
    "conformal": ("alphas", [0.3], {"calibrate"}),
    "evaluation": ("nsd_tolerance_um", 9.0, {"evaluate", "ensembles"}),
    "ensembles": ("uncertainty_maps", False, {"ensembles"}),
    "statistics": (
        "statistics_seed",
        5,
        {"compare", "deploy", *(f"figure-{name}" for name in FiguresConfig.model_fields)},
    ),
    "figures": ("paired_cases", {"width_mm": 90}, {"figure-paired_cases"}),
    "models": ("dynunet", {"filters": [4, 4, 4]}, {"train-dynunet"}),
    "deploy": ("variants", ["fp16"], EXPORTED),
}


@pytest.mark.parametrize("section", CHANGES)
def test_a_change_reaches_only_the_steps_that_read_the_section(
    section: str, tmp_path: Path
) -> None:
    key, value, changed = CHANGES[section]
    write_step_files(resolved(), tmp_path)
    before = stamps(tmp_path)
    write_step_files(resolved({section: {key: value}}), tmp_path)
    after = stamps(tmp_path)
    assert {name for name in after if after[name] != before[name]} == changed | {"experiment"}


def test_validation_reads_what_it_checks(tmp_path: Path) -> None:
    changes = {"folds": {"n_folds": 4}, "patches": {"patch_size": [8, 8, 8]}}
    write_step_files(resolved(changes), tmp_path)
    loaded = load_step(tmp_path / "validate.yaml")
    assert loaded.folds.n_folds == 4
    assert loaded.patches.patch_size == (8, 8, 8)


def test_every_section_is_read_by_some_step() -> None:
    others = {"name", "losses", "seeds", "external"}
    assert set(CHANGES) == set(Experiment.model_fields) - others
    read = {place.split(".")[0] for places in STEP_SECTIONS.values() for place in places}
    assert read == set(CHANGES) - {"figures", "models"}


def test_an_external_set_changes_its_own_file_and_no_other(tmp_path: Path) -> None:
    sets = {name: {"source": "csv", "path": f"{name}.csv"} for name in ("a", "b")}
    write_step_files(resolved({"external": sets}), tmp_path)
    before = stamps(tmp_path)
    sets["b"]["path"] = "c.csv"
    write_step_files(resolved({"external": sets}), tmp_path)
    after = stamps(tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"experiment", "external-b"}
    assert set(load_step(tmp_path / "external-a.yaml").external) == {"a"}


@pytest.mark.parametrize("key", ["losses", "seeds"])
def test_another_loss_or_seed_changes_no_step_but_the_experiment(key: str, tmp_path: Path) -> None:
    write_step_files(resolved(), tmp_path)
    before = stamps(tmp_path)
    write_step_files(resolved({key: {"losses": ["dice_ce"], "seeds": [9]}[key]}), tmp_path)
    after = stamps(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"experiment"}


def test_another_network_leaves_the_file_of_the_first_alone(tmp_path: Path) -> None:
    write_step_files(resolved({"models": {"a": {}}}), tmp_path)
    before = stamps(tmp_path)
    write_step_files(resolved({"models": {"a": {}, "b": {"filters": [1, 2, 3]}}}), tmp_path)
    assert stamps(tmp_path)["train-a"] == before["train-a"]
    assert set(load_step(tmp_path / "train-b.yaml").models) == {"b"}


@pytest.mark.parametrize("step", [*step_values(Experiment(name="test"))])
def test_a_step_has_its_own_sections_and_no_other(step: str, tmp_path: Path) -> None:
    experiment = resolved({"training": {"epochs": 7}, "figures": {"qualitative": {"width_mm": 80}}})
    write_step_files(experiment, tmp_path)
    loaded = load_step(tmp_path / f"{step}.yaml")
    held = step_values(experiment)[step]
    assert loaded.name == "test"
    for section in Experiment.model_fields:
        if section not in held:
            with pytest.raises(AttributeError):
                getattr(loaded, section)
        elif section == "figures" and step != "experiment":
            figure = step.removeprefix("figure-")
            assert getattr(loaded.figures, figure) == getattr(experiment.figures, figure)
        else:
            assert getattr(loaded, section) == getattr(experiment, section)


def test_a_step_without_config_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(MinivessError) as caught:
        load_step(tmp_path / "train-dynunet.yaml")
    assert caught.value.code == "MV-STATE-002"
    assert "prepared_cases" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("training: {epochs: 0}", "MV-CONFIG-002"),
        ("training: {epoch: 1}", "MV-CONFIG-001"),
        ("trainings: {}", "MV-CONFIG-001"),
        ("training: [", "MV-CONFIG-005"),
    ],
)
def test_a_step_config_that_somebody_broke_is_refused(text: str, code: str, tmp_path: Path) -> None:
    file = tmp_path / "train-dynunet.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        load_step(file)
    assert caught.value.code == code
    assert str(file) in caught.value.where


# round trip


def plain(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


def of_one_source(data: dict[str, Any]) -> dict[str, Any]:
    """Without what is said of files where the volumes are the phantom's."""
    made = data.get("source", "phantom") == "phantom"
    return {key: data[key] for key in data if not made or key in ("source", "exclude")}


SIZES = st.lists(st.integers(1, 512), min_size=3, max_size=3)
NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,12}\Z")
SECTION_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "losses": st.lists(NAMES, min_size=1, max_size=4, unique=True),
    "seeds": st.lists(st.integers(0), min_size=1, max_size=4, unique=True),
    "models": st.dictionaries(
        NAMES,
        st.fixed_dictionaries(
            {},
            optional={
                "filters": st.lists(st.integers(1, 64), min_size=3, max_size=6),
                "deep_supervision": st.booleans(),
                "architecture": NAMES,
            },
        ),
        min_size=1,
        max_size=3,
    ),
    "data": st.fixed_dictionaries(
        {},
        optional={
            "source": st.sampled_from(["phantom", "csv", "minivess", "nnunet"]),
            "path": st.none() | st.text(),
            "spacing_um": st.none() | st.lists(plain(1e-6, 1e6), min_size=3, max_size=3),
            "vessel_labels": st.none() | st.lists(st.integers()),
            "exclude": st.lists(st.text()),
        },
    ).map(of_one_source),
    "training": st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 10**6),
            "learning_rate": plain(1e-30, 1e3),
            "warmup_fraction": plain(0, 0.999),
        },
    ),
    "patches": st.fixed_dictionaries({}, optional={"patch_size": SIZES}),
    "inference": st.fixed_dictionaries({}, optional={"window_size": st.none() | SIZES}),
    "presets": st.fixed_dictionaries(
        {},
        optional={group: st.sampled_from(stores.preset_names(group)) for group in stores.SECTIONS},
    ),
}


@settings(deadline=None, max_examples=40)
@given(st.fixed_dictionaries({}, optional=SECTION_VALUES))
def test_a_resolved_experiment_resolves_to_itself(values: dict[str, Any]) -> None:
    experiment = resolved(values)
    dump = experiment.model_dump(mode="json")
    assert resolve_mapping(dump, {}, "dump") == experiment
    through_yaml = yaml.safe_load(as_yaml(dump))
    assert resolve_mapping(through_yaml, {}, "file") == experiment
    assert as_yaml(through_yaml) == as_yaml(dump)


@pytest.mark.parametrize("text", ["Gefäß µ", "a\x85b", "\u2028", "\ufeff"])
def test_unusual_characters_survive_as_yaml(text: str) -> None:
    assert yaml.safe_load(as_yaml({"exclude": [text]})) == {"exclude": [text]}
    assert ("ä" in as_yaml({"exclude": [text]})) == ("ä" in text)


def test_the_text_of_equal_configs_is_equal_and_of_others_not() -> None:
    first, second = as_yaml({"a": 1, "b": [2.5, "µ"]}), as_yaml({"b": [2.5, "µ"], "a": 1})
    assert first == second
    assert "µ" in first
    assert digest(first) == digest(second) != digest(as_yaml({"a": 2}))


# keys


def test_keys_lists_every_key_of_every_section_once() -> None:
    listed = [(group, key) for group, key, _ in keys()]
    assert len(listed) == len(set(listed))
    assert {group for group, _ in listed} == {
        "",
        "analysis",
        "figures",
        "external",
        *stores.SECTIONS,
    }
    for group, section in stores.SECTIONS.items():
        assert [key for name, key in listed if name == group] == list(section.model_fields)
    assert [key for group, key in listed if not group] == ["name", "losses", "seeds"]


def test_a_bare_name_of_a_key_means_one_section_only() -> None:
    """Else an override by the bare name would be refused, or reach the wrong section."""
    for group, key, _ in keys():
        if group not in ("", "analysis", "model", "figures", "external"):
            assert sections_of(key) == [group]
            assert key not in Experiment.model_fields


def test_check_keys_accepts_what_resolve_makes() -> None:
    check_keys(resolved().model_dump(), "here")
    assert load.PRESETS not in Experiment.model_fields


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("atuo", "patches.patch_size: Input should be 'auto', found 'atuo'"),
        ([8, 8], "patches.patch_size.2: Field required"),
        ([0, 8, 8], "patches.patch_size.0: Input should be greater than or equal to 1, found 0"),
    ],
)
def test_a_bad_value_that_could_have_been_auto_is_one_problem(value: object, found: str) -> None:
    error = refused({}, patch_size=value)
    assert error.what.startswith("1 config value(s)")
    assert error.found.startswith(found)
