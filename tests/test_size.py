"""Size and shape of the code: small modules, small functions, docstrings, quick imports."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minivess

PACKAGE = Path(minivess.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
IDS = [path.relative_to(PACKAGE).as_posix() for path in MODULES]
TESTS = sorted(path for path in Path(__file__).parent.rglob("*.py") if path != Path(__file__))
ROOT = PACKAGE.parent

MOST_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_PARAMETERS = 7
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "core", "misc", "tools"}
HEAVY = ("torch", "monai", "torchio", "mlflow", "matplotlib", "polars", "numpy", "scipy", "pandera")

type Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_modules_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_functions_are_small(path: Path) -> None:
    for function in functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= MOST_FUNCTION_LINES, f"{function.name} has {lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_functions_have_few_parameters(path: Path) -> None:
    if path.parent.name == "cli":
        return  # a verb's options are its parameters
    for function in functions(path):
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        assert count <= MOST_PARAMETERS, f"{function.name} has {count} parameters"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_modules_and_folders_say_what_they_are_for(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    assert not VAGUE & set(parts)


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_everything_public_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module"

    def check(body: list[ast.stmt], where: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                if node.name.startswith("_"):
                    continue
                assert ast.get_docstring(node), f"{where}{node.name}"
                if isinstance(node, ast.ClassDef):
                    check(node.body, f"{node.name}.")

    check(tree.body, "")


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_annotations_are_not_evaluated(path: Path) -> None:
    first = path.read_text(encoding="utf-8")
    assert "from __future__ import annotations" in first or path.name == "__init__.py"


def identifiers(path: Path) -> set[str]:
    """Names, attributes, arguments and keywords of a module, and the words they are made of."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for field in ("id", "attr", "arg", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                found |= {value.lower(), *value.lower().split("_")}
    return found


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=lambda path: path.name)
def test_the_reference_is_called_reference(path: Path) -> None:
    text = path.read_text(encoding="utf-8").lower()
    assert not re.search(r"ground[ _-]?truth", text)
    names = identifiers(path)
    assert "gt" not in names - pydantic_bounds(path)


def pydantic_bounds(path: Path) -> set[str]:
    """Pydantic's own word for "greater than", in the package that sets bounds."""
    return {"gt"} if path.parent == PACKAGE / "config" else set()


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_nothing_is_left_to_do_and_no_error_is_swallowed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, "a bare except"
            assert not all(isinstance(statement, ast.Pass) for statement in node.body)


def test_only_these_places_may_end_or_print() -> None:
    """Library functions return values and raise errors."""
    allowed = {"logs.py", "training/progress.py", "__main__.py", "reference.py"}
    for path, name in zip(MODULES, IDS, strict=True):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "sys.exit", "exit", "quit") or (
                    name in allowed or name.startswith("cli/")
                ), name


def test_random_numbers_come_from_seeding_alone() -> None:
    pattern = re.compile(
        r"np\.random\.(?!Generator|PCG64)|^import random|default_rng|torch\.manual"
    )
    for path, name in zip(MODULES, IDS, strict=True):
        found = pattern.findall(path.read_text(encoding="utf-8"))
        assert not found or name == "seeding.py", (name, found)


def test_nothing_is_pickled_or_run_from_text() -> None:
    forbidden = {"torch.save", "torch.load", "yaml.load", "eval", "exec", "np.load"}
    for path, name in zip(MODULES, IDS, strict=True):
        if name == "models/pretrained.py":  # published weights: tests/models/test_pretrained.py
            text = path.read_text(encoding="utf-8")
            assert text.count("torch.load(") == text.count("weights_only=True") == 1
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert not {"pickle", "joblib", "dill", "shelve"} & set(names), name
            if isinstance(node, ast.Call) and ast.unparse(node.func) in forbidden:
                # NumPy's loader refuses pickle unless it is asked for it.
                assert ast.unparse(node.func) == "np.load", name
                assert "allow_pickle=True" not in ast.unparse(node), name


def imported(code: str) -> set[str]:
    """Top-level packages that a new process has loaded after running some code."""
    probe = (
        "\nimport json, sys\n"
        "print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code + probe], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(made.stdout.splitlines()[-1]))


def test_the_package_alone_loads_nothing_heavy() -> None:
    assert not set(HEAVY) & imported("import minivess")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['minivess', '--help']\n"
        "from minivess.cli import main\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as ended:\n"
        "    assert not ended.code\n"
    )
    loaded = imported(code)
    assert "typer" in loaded, "else this test has not reached the help"
    assert not set(HEAVY) & loaded


@pytest.mark.parametrize(
    "module",
    [
        "metrics",
        "statistics.compare",
        "data.manifest",
        "figures",
        "tracking",
        "workflow",
        "reference",
    ],
)
def test_what_does_not_compute_with_networks_does_not_load_torch(module: str) -> None:
    loaded = imported(f"import minivess.{module}")
    assert "minivess" in loaded
    assert not {"torch", "monai", "torchio"} & loaded
