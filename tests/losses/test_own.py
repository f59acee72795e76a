"""Losses of a researcher's own: found, checked, trained with, part of the run's digest."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from minivess.config.schema import Experiment
from minivess.config.training import LossConfig
from minivess.errors import MinivessError
from minivess.losses import build_loss, needs_of
from minivess.losses.own import check_named
from minivess.workflow import check_uses

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-a-loss.md"
NAME = "my_losses.SquaredError"
FORMS = {
    "shape": "(logits[:, 1:] - label) ** 2",
    "number": "1.0",
    "nan": "((logits[:, 1:] - label) ** 2).mean() / label.sum() * label.sum()",
    "no gradient": "(logits * 0).mean()",
    "detached": "logits.detach().mean()",
    "half": "((logits[:, 1:] - label) ** 2).mean().half()",
    "in place": "label.add_(1).mean() + (logits ** 2).mean()",
    "random": "(logits ** 2).mean() * torch.rand(())",
    "raises": "logits.no_such_thing()",
}
SAID = {
    "shape": "not one number",
    "number": "float, not one number",
    "nan": "an empty label: the value is nan",
    "no gradient": "the gradient is zero",
    "detached": "does not require grad",
    "half": "float16, not float32",
    "in place": "changes its input",
    "random": "another value the second time",
    "raises": "no_such_thing",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the example of the how-to page."""
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    (tmp_path / "my_losses.py").write_text(example, encoding="utf-8")
    return tmp_path


def test_the_example_of_the_page_is_a_loss(folder: Path) -> None:
    import torch

    loss = build_loss(NAME, LossConfig())
    label = torch.zeros(1, 1, 4, 4, 2, dtype=torch.uint8)
    label[..., :2, :, :] = 1
    # Probability 1/2 everywhere: (3 * 16 + 16) / 4 over 3 * 16 + 16 + smooth.
    assert loss(torch.zeros(1, 2, 4, 4, 2), label).item() == pytest.approx(16 / 65)
    assert loss(torch.zeros(1, 2, 4, 4, 2).bfloat16(), label).dtype == torch.float32


def test_a_tensor_that_a_loss_keeps_goes_where_the_logits_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    text = """import torch
class Weighted(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.register_buffer("weight", torch.tensor([1.0, 3.0]))
    def forward(self, logits, label):
        weight = self.weight.reshape(1, 2, 1, 1, 1)
        return (weight * (logits - label) ** 2).mean()
"""
    (folder / "kept.py").write_text(text, encoding="utf-8")
    loss = build_loss("kept.Weighted", LossConfig())
    # The device meta, on every machine another one than the CPU, has no autocast to switch off.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    label = torch.zeros(1, 1, 4, 4, 2, device="meta")
    assert loss(torch.zeros(1, 2, 4, 4, 2, device="meta"), label).device.type == "meta"


def test_the_config_takes_both_spellings(folder: Path) -> None:
    for name in ("my_losses:SquaredError", NAME):
        experiment = Experiment.model_validate({"name": "x", "losses": [name, "dice_ce"]})
        assert experiment.losses == (NAME, "dice_ce")
        check_uses(experiment)


@pytest.mark.parametrize(
    ("name", "fix"),
    [("no_such.Loss", "no_such.py"), ("my_losses.SquaredErorr", "did you mean SquaredError")],
)
def test_what_is_not_there_is_said_before_anything_runs(folder: Path, name: str, fix: str) -> None:
    for check in (check_named, lambda n: check_uses(Experiment(name="x", losses=(n,)))):
        with pytest.raises(MinivessError, match=re.escape(fix)) as caught:
            check(name)
        assert caught.value.code == "MV-CONFIG-003"


@pytest.mark.parametrize("form", FORMS)
def test_what_is_no_loss_is_refused(folder: Path, form: str) -> None:
    text = f"import torch\ndef made(config):\n    return lambda logits, label: {FORMS[form]}\n"
    (folder / "bad.py").write_text(text, encoding="utf-8")
    with pytest.raises(MinivessError, match=SAID[form]) as caught:
        build_loss("bad.made", LossConfig())
    assert caught.value.code == "MV-TRAIN-003"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_package\ndef made(config): pass\n", "no_such_package"),
        ("def made(config:\n", "SyntaxError"),
        (
            """import torch
class made(torch.nn.Linear):
    def __init__(self, config):
        super().__init__(2, 1)
    def forward(self, logits, label):
        return (logits**2).mean()
""",
            "2 parameters to learn",
        ),
    ],
)
def test_files_that_cannot_be_used(folder: Path, text: str, said: str) -> None:
    (folder / "bad.py").write_text(text, encoding="utf-8")
    with pytest.raises(MinivessError, match=said) as caught:
        build_loss("bad.made", LossConfig())
    assert caught.value.code == "MV-TRAIN-003"


def test_a_file_is_taken_from_the_working_folder_alone(folder: Path) -> None:
    (folder / "json.py").write_text((folder / "my_losses.py").read_text(encoding="utf-8"))
    build_loss("json.SquaredError", LossConfig())
    import json

    assert json.dumps([]) == "[]"


NEEDY = """import torch
NEEDS = {"Needy": ["skeleton", "spacing_um"], "Other": ("spacing_um",)}
class Needy(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
    def forward(self, logits, label, skeleton, spacing_um):
        assert skeleton.dtype == spacing_um.dtype == torch.float32
        assert skeleton.shape == label.shape and spacing_um.shape == (len(label), 3)
        missed = (1 - torch.softmax(logits, dim=1)[:, 1:]) * skeleton
        off = torch.softmax(logits, dim=1)[:, 1:] * (1 - label)
        return (missed.mean((1, 2, 3, 4)) * spacing_um.prod(1)).mean() + off.mean()
def Other(config):
    return lambda logits, label, spacing_um: (logits**2).mean() * spacing_um.mean()
def Plain(config):
    return lambda logits, label: (logits**2).mean()
"""


def test_a_loss_gets_what_its_file_asks_for(folder: Path) -> None:
    import torch

    (folder / "needy.py").write_text(NEEDY, encoding="utf-8")
    found = {name: needs_of(f"needy.{name}") for name in ("Needy", "Other", "Plain")}
    assert found == {"Needy": {"skeleton", "spacing_um"}, "Other": {"spacing_um"}, "Plain": set()}
    for name in found:
        check_named(f"needy.{name}")
    build_loss("needy.Plain", LossConfig())
    label = torch.zeros(1, 1, 2, 1, 1, dtype=torch.uint8)
    label[:, :, 0] = 1
    others = {"skeleton": label, "spacing_um": torch.tensor([[3.0, 2.0, 1.0]])}
    needy = build_loss("needy.Needy", LossConfig())
    # Missed: 1/2 of one of two voxels, times 6 um3; wrong: 1/2 of the other.
    assert needy(torch.zeros(1, 2, 2, 1, 1), label, **others).item() == pytest.approx(1.5 + 0.25)
    only = {"spacing_um": others["spacing_um"]}
    assert build_loss("needy.Other", LossConfig())(torch.ones(1, 2, 2, 1, 1), label, **only) == 2


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ('{"Plain": ["skeletons"]}', "did you mean skeleton?"),
        ('{"Plian": ["skeleton"]}', "did you mean Plain?"),
        ('dict(Plain=["skeleton"])', 'write NEEDS = {"Plain": ["skeleton"]}'),
        ('{"Plain": "skeleton"}', 'write NEEDS = {"Plain": ["skeleton"]}'),
    ],
)
def test_needs_that_cannot_be_met_are_said_before_anything_runs(
    folder: Path, needs: str, said: str
) -> None:
    text = NEEDY.replace(NEEDY.splitlines()[1], f"NEEDS = {needs}")
    (folder / "needy.py").write_text(text, encoding="utf-8")
    for check in (check_named, needs_of):
        with pytest.raises(MinivessError, match=re.escape(said)) as caught:
            check("needy.Plain")
        assert caught.value.code == "MV-CONFIG-003"


def test_needs_may_have_a_type(folder: Path) -> None:
    given = NEEDY.splitlines()[1].removeprefix("NEEDS")
    text = NEEDY.replace(NEEDY.splitlines()[1], f"NEEDS: dict[str, list[str]]{given}")
    (folder / "needy.py").write_text(text, encoding="utf-8")
    assert needs_of("needy.Needy") == {"skeleton", "spacing_um"}


@pytest.mark.parametrize(
    "line",
    ['NEEDS["Plain"] = ["skeleton"]', 'NEEDS |= {"Plain": ["skeleton"]}', "NEEDS = {[]: []}"],
)
def test_needs_that_are_put_together_are_refused(folder: Path, line: str) -> None:
    (folder / "needy.py").write_text(f"{NEEDY}\n{line}\n", encoding="utf-8")
    with pytest.raises(MinivessError, match="NEEDS cannot be read") as caught:
        needs_of("needy.Plain")
    assert caught.value.code == "MV-CONFIG-003"


def test_needs_and_parameters_must_agree(folder: Path) -> None:
    text = NEEDY.replace(NEEDY.splitlines()[1], 'NEEDS = {"Plain": ["skeleton"]}')
    (folder / "needy.py").write_text(text, encoding="utf-8")
    for name in ("Plain", "Other"):
        with pytest.raises(MinivessError, match=r"TypeError.*argument.*(skeleton|spacing_um)"):
            build_loss(f"needy.{name}", LossConfig())
