"""A researcher's own loss: one file beside the experiment, named `module:Name`.

Results are kept under `module.Name`, which every file system can store. No loss of the registry has
a dot in its name. The digest of the file is part of what a run is, so an edit trains anew.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess.config.training import LossConfig
from minivess.errors import MinivessError, nearest
from minivess.losses.needs import KNOWN, SKELETON, SPACING

if TYPE_CHECKING:
    import torch

    from minivess.losses import Loss

_SHAPE = (16, 16, 8)
_SPACING_UM = (1.0, 1.0, 5.0)


def is_own(name: str) -> bool:
    """Whether a loss is a researcher's own.

    >>> is_own("my_losses.MyLoss"), is_own("dice_ce")
    (True, False)
    """
    return "." in name


def source_file(name: str) -> Path:
    """The file of such a loss, relative to the working folder.

    >>> source_file("my_losses.MyLoss").as_posix(), source_file("lab.topology.Loss").as_posix()
    ('my_losses.py', 'lab/topology.py')
    """
    return Path(*name.split(".")[:-1]).with_suffix(".py")


def check_named(name: str) -> None:
    """Raise where the file or the name in it is missing, or its needs; nothing in it is run.

    Raises:
        MinivessError: MV-CONFIG-003, MV-TRAIN-003 no Python.
    """
    wanted, known = name.rpartition(".")[2], _defined(_body(name))
    if wanted not in known:
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no class or function {wanted} in the file of the loss",
            where=str(source_file(name)),
            fix=nearest(wanted, known),
        )
    declared_needs(name)


def _body(name: str) -> list[ast.stmt]:
    """The statements of the file of a loss."""
    file = source_file(name)
    if not file.is_file():
        raise MinivessError(
            "MV-CONFIG-003",
            what=f"there is no file of the loss {name}",
            where=f"config losses, {Path.cwd() / file}",
            fix=f"put {file} into the folder that you work in: docs/how-to/add-a-loss.md",
        )
    try:
        return ast.parse(file.read_text(encoding="utf-8")).body
    except (SyntaxError, UnicodeDecodeError) as error:
        raise _broken(name, [f"{type(error).__name__}: {error}"]) from error


def _defined(body: list[ast.stmt]) -> list[str]:
    return [n.name for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef)]


def declared_needs(name: str) -> frozenset[str]:
    """What a loss of one's own takes beside logits and label: its entry in NEEDS of its file.

    It decides which jobs an experiment has, so it is read and not run: a dictionary written out.

    Raises:
        MinivessError: MV-CONFIG-003 no such file, NEEDS is something else or has names that nothing
            is known of, MV-TRAIN-003 no Python.
    """
    body = _body(name)
    declared: dict[str, Any] = {}
    for node in body:
        if not any(isinstance(n, ast.Name) and n.id == "NEEDS" for n in ast.walk(node)):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        whole = [ast.unparse(target) for target in targets] == ["NEEDS"]
        value = getattr(node, "value", None)
        declared = _written_out(name, value if whole and value is not None else node)
    entries = [entry for needs in declared.values() for entry in needs]
    for kind, names, known in (("loss", declared, _defined(body)), ("need", entries, KNOWN)):
        for unknown in (entry for entry in names if entry not in known):
            raise MinivessError(
                "MV-CONFIG-003",
                what=f"there is no {kind} {unknown}",
                where=f"NEEDS in {source_file(name)}",
                fix=nearest(str(unknown), known),
            )
    return frozenset(declared.get(name.rpartition(".")[2], ()))


def _written_out(name: str, node: ast.expr | ast.stmt) -> dict[str, Any]:
    try:
        found = ast.literal_eval(node)
    except (ValueError, TypeError):
        found = None
    if isinstance(found, dict) and all(isinstance(n, list | tuple) for n in found.values()):
        return found
    raise MinivessError(
        "MV-CONFIG-003",
        what="NEEDS cannot be read",
        where=str(source_file(name)),
        found=ast.unparse(node).splitlines()[0],
        expected="a dictionary of names of losses with lists of names, written out in one place",
        fix=f'write NEEDS = {{"{name.rpartition(".")[2]}": ["{SKELETON}"]}}',
    )


def build_own(name: str, config: LossConfig) -> Loss:
    """The loss, made from the section `loss`, computed in float32 whatever the network's type.

    Raises:
        MinivessError: MV-CONFIG-003 no such loss, MV-TRAIN-003 its file cannot be run, or it is not
            what a loss must be.
    """
    import torch

    check_named(name)
    try:
        criterion = _made(name)(config)
    except Exception as error:
        raise _broken(name, [f"{type(error).__name__}: {error}"]) from error

    def loss(logits: torch.Tensor, label: torch.Tensor, **needed: torch.Tensor) -> torch.Tensor:
        if isinstance(criterion, torch.nn.Module):
            criterion.to(logits.device)  # its buffers: it is made on the CPU
        with torch.autocast(logits.device.type, enabled=False):
            others = {name: tensor.float() for name, tensor in needed.items()}
            value: torch.Tensor = criterion(logits.float(), label.float(), **others)
            return value

    problems = [*_parameters(criterion), *_problems(loss, declared_needs(name))]
    if problems:
        raise _broken(name, problems)
    return loss


def _made(name: str) -> Callable[[LossConfig], Any]:
    """The class or function, from its file and not from any module of the same name."""
    file, wanted = source_file(name), name.rpartition(".")[2]
    module_name = "minivess_own_" + "_".join(file.with_suffix("").parts)
    spec = importlib.util.spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    found: Callable[[LossConfig], Any] = getattr(module, wanted)
    return found


def _parameters(criterion: Any) -> Iterator[str]:
    trained = [p for p in getattr(criterion, "parameters", list)() if p.requires_grad]
    if trained:
        yield f"it has {len(trained)} parameters to learn, which no optimiser would train"


def _cases() -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Logits (2, 2, x, y, z) and labels (2, 1, x, y, z) that every training meets."""
    import torch

    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, *_SHAPE, generator=random)
    tube = torch.zeros(2, 1, *_SHAPE)
    tube[:, :, 4:9, 5:9] = 1
    yield "a vessel", logits, tube
    yield "an empty label", logits, torch.zeros_like(tube)
    yield "a full label", logits, torch.ones_like(tube)
    yield "certain logits", 50.0 * logits, tube


def _needed(label: torch.Tensor, needs: frozenset[str]) -> dict[str, torch.Tensor]:
    """What goes with a label, of what the loss has asked for."""
    import numpy as np
    import torch

    from minivess.data.skeletons import tubed_skeleton

    needed = {}
    if SKELETON in needs:
        tubes = np.stack([tubed_skeleton(sample) for sample in label[:, 0].numpy() > 0])
        needed[SKELETON] = torch.from_numpy(tubes[:, np.newaxis]).float()
    if SPACING in needs:
        needed[SPACING] = torch.tensor([_SPACING_UM] * len(label))
    return needed


def _problems(loss: Loss, needs: frozenset[str]) -> Iterator[str]:
    """What a loss is not, of what the trainer relies on."""
    import torch

    for kind, logits, label in _cases():
        leaf, kept = logits.clone().requires_grad_(), label.clone()
        others = _needed(label, needs)
        copies = {name: tensor.clone() for name, tensor in others.items()}
        try:
            value = loss(leaf, kept, **copies)
            if not isinstance(value, torch.Tensor) or value.shape != ():
                yield f"{kind}: {getattr(value, 'shape', type(value).__name__)}, not one number"
                return
            if value.dtype != torch.float32:
                yield f"{kind}: {value.dtype}, not float32"
            value.backward()
            again = loss(logits.bfloat16(), label, **others)
            same = torch.equal(loss(logits, label, **others), value.detach())
        except Exception as error:
            yield f"{kind}: {type(error).__name__}: {error}"
            return
        if not torch.isfinite(value):
            yield f"{kind}: the value is {float(value.detach())}"
        if again.dtype != torch.float32:
            yield f"{kind}: {again.dtype} of bfloat16 logits, not float32"
        yield from _gradient_problems(kind, leaf.grad)
        pairs = [(leaf.detach(), logits), (kept, label)]
        pairs += [(copies[name], others[name]) for name in others]
        if not all(torch.equal(*pair) for pair in pairs):
            yield f"{kind}: it changes its input"
        if not same:
            yield f"{kind}: the same input gives another value the second time"


def _gradient_problems(kind: str, gradient: torch.Tensor | None) -> Iterator[str]:
    if gradient is None or not gradient.isfinite().all():
        yield f"{kind}: the gradient is not finite everywhere"
    elif kind == "a vessel" and not gradient.any():
        yield f"{kind}: the gradient is zero, nothing would be learnt"


def _broken(name: str, problems: list[str]) -> MinivessError:
    return MinivessError(
        "MV-TRAIN-003",
        what=f"the loss {name} cannot be trained with",
        where=str(source_file(name)),
        found="; ".join(problems),
        expected="from logits (B, 2, x, y, z), a label (B, 1, x, y, z) of 0 and 1 and what NEEDS "
        "asks for to one finite float32 number with a gradient",
        fix=f"correct it, then try: minivess check-loss {name}",
    )
