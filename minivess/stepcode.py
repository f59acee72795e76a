"""Which of our own code each step runs: its function, and its imports, followed to the end.

Of the step's own module what the function uses: functions, classes and constants. With `BESIDE`,
what no import statement names.

Snakemake compares the text of a command, not what it imports. Each rule carries the digest of its
step's code as a parameter, so that editing any of it runs the rule again.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from minivess import provenance
from minivess.environment import DECIDING

# What decides no result: messages, places of files, checks of config (its values are inputs).
WITHOUT_EFFECT = frozenset(
    {
        "minivess.config.calibration",
        "minivess.config.deploy",
        "minivess.config.analysis",
        "minivess.config.files",
        "minivess.config.keys",
        "minivess.config.load",
        "minivess.config.models",
        "minivess.config.automatic",
        "minivess.config.plan",
        "minivess.config.profiles",
        "minivess.config.schema",
        "minivess.config.section",
        "minivess.config.settings",
        "minivess.config.stores",
        "minivess.config.training",
        "minivess.errors",
        "minivess.logs",
        "minivess.paths",
        "minivess.provenance",
        "minivess.stepcode",
        "minivess.training.progress",
        "minivess.training.shared_memory",
        "minivess.types",
    }
)

# What a step uses without an import statement: by a name in a registry, or in the manuscript.
BESIDE: dict[str, tuple[str, ...]] = {
    "calibrate": tuple(
        f"minivess.calibration.{name}" for name in ("isotonic", "local_temperature", "temperature")
    ),
    "paper": (
        "minivess.data",
        "minivess.data.phantom",
        "minivess.paper_calibration",
        "minivess.paper_sets",
        "minivess.paper_statistics",
        "minivess.paper_training",
        "minivess.training.optimisation",
    ),
    "dashboard": ("minivess.paper_statistics",),
}

# Step -> (its module, its function, modules that it uses without an effect on its files).
STEPS: dict[str, tuple[str, str, frozenset[str]]] = {
    "phantom": ("minivess.steps.data", "phantom", frozenset()),
    "unpack": ("minivess.steps.data", "unpack", frozenset()),
    "manifest": ("minivess.steps.data", "manifest", frozenset()),
    "validate": ("minivess.steps.data", "validate_cases", frozenset()),
    "accept": ("minivess.steps.data", "accept_cases", frozenset()),
    "preprocess": ("minivess.steps.data", "preprocess", frozenset()),
    "folds": ("minivess.steps.data", "folds", frozenset()),
    "skeletons": ("minivess.steps.data", "skeletons", frozenset({"minivess.data.manifest"})),
    # A training reads prepared cases; what made them is behind its inputs. MLflow only listens.
    # Where metrics select, its rule has the digest of `evaluate` as well.
    "train": (
        "minivess.steps.train",
        "train",
        frozenset(
            {
                "minivess.data.manifest",
                "minivess.metrics",
                "minivess.statistics.tables",
                "minivess.tracking",
            }
        ),
    ),
    "predict": ("minivess.steps.train", "predict", frozenset({"minivess.data.manifest"})),
    "evaluate": ("minivess.steps.analyze", "evaluate", frozenset({"minivess.data.manifest"})),
    "ensembles": ("minivess.steps.ensembles", "ensembles", frozenset({"minivess.data.manifest"})),
    "baseline": ("minivess.steps.analyze", "baseline", frozenset()),
    "track": ("minivess.steps.analyze", "track", frozenset()),
    "export": ("minivess.steps.analyze", "export", frozenset()),
    # Of losses and volumes it only asks what they need and what is noted in them.
    "compare": (
        "minivess.steps.analyze",
        "compare_arms",
        frozenset({"minivess.data.manifest", "minivess.data.volume", "minivess.losses"}),
    ),
    "champion": ("minivess.steps.champion", "champion", frozenset({"minivess.data.manifest"})),
    "calibrate": ("minivess.steps.calibrate", "calibrate", frozenset({"minivess.data.manifest"})),
    "coverage": ("minivess.steps.calibrate", "coverage", frozenset({"minivess.data.manifest"})),
    "test": (
        "minivess.steps.locked_set",
        "evaluate_test",
        frozenset({"minivess.reproducibility", "minivess.tracking"}),
    ),
    "evaluate_external": (
        "minivess.steps.external",
        "evaluate_external",
        frozenset({"minivess.tracking"}),
    ),
    "deploy_onnx": ("minivess.steps.deploy", "export", frozenset({"minivess.data.manifest"})),
    "deploy_parity": ("minivess.steps.deploy", "parity", frozenset()),
    "deploy": ("minivess.steps.deploy", "bundle", frozenset({"minivess.data"})),
    "paper": ("minivess.steps.paper", "render", frozenset()),
    "dashboard": ("minivess.steps.paper", "render_dashboard", frozenset()),
    # It lists files; what is in them is behind its inputs.
    "digests": (
        "minivess.steps.report",
        "digests",
        frozenset({"minivess.data", "minivess.losses", "minivess.metrics", "minivess.statistics"}),
    ),
    # Each figure has its own module in addition: see `figure_digest`.
    "figure": ("minivess.steps.report", "figure", frozenset({"minivess.data.manifest"})),
}


@cache
def _path(module: str) -> Path | None:
    below = module.split(".")[1:]
    folder = provenance.PACKAGE.joinpath(*below)
    if (folder / "__init__.py").exists():
        return folder / "__init__.py"
    file = folder.with_suffix(".py")
    return file if file.exists() else None


@cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    assert path is not None, module
    return ast.parse(path.read_text(encoding="utf-8"))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all statements below it; a walk over every node takes five times as long."""
    yield node
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, block, ()):
            yield from _statements(child)


def _imports(node: ast.AST) -> set[str]:
    """Modules of ours imported anywhere below a node, also inside functions."""
    found: set[str] = set()
    for child in _statements(node):
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom) and child.module:
            found.add(child.module)
            found |= {f"{child.module}.{alias.name}" for alias in child.names}
    return {name for name in found if name.split(".")[0] == "minivess" and _path(name)}


@cache
def _module_imports(module: str) -> frozenset[str]:
    return frozenset(_imports(_tree(module)))


def _function_parts(module: str, function: str) -> list[ast.AST]:
    """A function, what it uses of its module, and the module's own imports, in their order."""
    tree = _tree(module)
    defined: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        for name in _defined(node):
            defined.setdefault(name, []).append(node)
    todo, seen = [function], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in defined[name]:
            names = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
            todo += sorted(names & defined.keys())
    return [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom) or not seen.isdisjoint(_defined(node))
    ]


def _defined(node: ast.stmt) -> list[str]:
    """Names that a statement of a module gives to a function, a class or a constant."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            places: list[ast.expr] = targets
        case ast.AnnAssign(target=target):
            places = [target]
        case ast.TypeAlias(name=alias):
            places = [alias]
        case _:
            return []
    found = (child for place in places for child in ast.walk(place))
    return [child.id for child in found if isinstance(child, ast.Name)]


@cache
def step_modules(step: str) -> tuple[str, ...]:
    """Names of the modules behind a step, sorted.

    >>> "minivess.data.phantom" in step_modules("phantom")
    True

    Raises:
        KeyError: no such step.
    """
    module, function, unused = STEPS[step]
    ignored = WITHOUT_EFFECT | unused
    todo = {name for part in _function_parts(module, function) for name in _imports(part)}
    todo |= {*BESIDE.get(step, ())}
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or any(f"{name}.".startswith(f"{skip}.") for skip in ignored):
            continue
        seen.add(name)
        todo |= _module_imports(name)
    return tuple(sorted(seen - {"minivess"}))


def _digest(step: str, modules: Iterable[str]) -> str:
    module, function, _ = STEPS[step]
    own = [ast.unparse(part) for part in _function_parts(module, function)]
    files = {name: provenance.file_sha256(path) for name in modules if (path := _path(name))}
    return provenance.json_sha256([own, files, DECIDING])[:16]


@cache
def step_digest(step: str) -> str:
    """Digest of the code behind a step.

    Raises:
        KeyError: no such step.
    """
    return _digest(step, step_modules(step))


@cache
def figure_digest(name: str) -> str:
    """Digest of the code behind one figure: its own module, and no other figure's."""
    own = f"minivess.figures.{name}"
    shared = [
        module
        for module in step_modules("figure")
        if not (module.startswith("minivess.figures.") and _is_figure(module))
    ]
    return _digest("figure", [*shared, own])


def _is_figure(module: str) -> bool:
    from minivess.figures import FIGURES

    return module.rsplit(".", 1)[1] in FIGURES
