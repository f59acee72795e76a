"""The service as a Bento, and so as a container image: the champion, the code, no torch.

A Bento is a folder with all that the image is built from. Its packages are those that the service
imports, with what they need, at the versions and with the markers of `uv.lock`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from minivess import __version__, provenance
from minivess.deploy.bundle import Bundle
from minivess.errors import MinivessError

SERVICE = "minivess.deploy.service:Segmenter"
PACKAGES = (
    "bentoml",
    "deflate",
    "dynaconf",
    "nibabel",
    "numpy",
    "onnxruntime",
    "pillow",
    "polars",
    "prometheus-client",
    "pydantic",
    "python-multipart",
    "scikit-image",
    "scipy",
    "tifffile",
)
PYTHON = "3.12"
# What markers of packages ask: the image, whatever machine it is built on.
MACHINE = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.12.1",
    "python_version": PYTHON,
    "sys_platform": "linux",
}
# In an image everybody who reaches it may ask, so that it does not start without a token.
VARIABLES = {"MINIVESS_ENV": "server", "BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}


def pinned(lock: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Versions of packages and of all that they need, by name.

    Args:
        lock: the content of uv.lock.
        names: the packages.

    Raises:
        KeyError: a package is not in the lock.

    >>> lock = {"package": [
    ...     {"name": "a", "version": "1", "dependencies": [{"name": "b"}, {"name": "w",
    ...      "marker": "sys_platform == 'win32'"}]},
    ...     {"name": "b", "version": "2"}, {"name": "w", "version": "3"}]}
    >>> pinned(lock, ["a"])
    {'a': '1', 'b': '2'}
    """
    from packaging.markers import Marker

    known: dict[str, Mapping[str, Any]] = {one["name"]: one for one in lock["package"]}
    found: dict[str, str] = {}
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, ()) for name in names]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, extras = one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        package = known[name]
        found[name] = package["version"]
        optional = package.get("optional-dependencies", {})
        needed = [*package.get("dependencies", ())]
        for extra in extras:
            needed += optional.get(extra, ())
        waiting += [
            (each["name"], tuple(each.get("extra", ())))
            for each in needed
            if "marker" not in each or Marker(each["marker"]).evaluate(MACHINE)
        ]
    return dict(sorted(found.items()))


def stage(bundle: Bundle, folder: Path) -> None:
    """Put together what the Bento is built from: code, settings, champion, packages.

    Secrets are not among the settings: the token is given to the container.

    Raises:
        MinivessError: MV-DATA-001 there is no uv.lock beside the package.
    """
    project = provenance.PACKAGE.parent
    lock = project / "uv.lock"
    if not lock.is_file():
        raise MinivessError(
            "MV-DATA-001",
            what="there is no uv.lock beside the package",
            where=str(lock),
            fix="build the image from a copy of the project's repository",
        )
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(provenance.PACKAGE, folder / "minivess", ignore=ignore)
    shutil.copytree(bundle.folder, folder / "bundle")
    settings = Path("configs", "deploy", "settings.toml")
    (folder / settings).parent.mkdir(parents=True)
    shutil.copyfile(project / settings, folder / settings)
    packages = pinned(tomllib.loads(lock.read_text(encoding="utf-8")), PACKAGES)
    lines = "".join(f"{name}=={version}\n" for name, version in packages.items())
    (folder / "requirements.txt").write_text(lines, encoding="utf-8")
    (folder / "bentofile.yaml").write_text(yaml.safe_dump(recipe(bundle)), encoding="utf-8")


def recipe(bundle: Bundle) -> dict[str, Any]:
    """The content of bentofile.yaml."""
    return {
        "service": SERVICE,
        "name": "minivess",
        "description": f"Vessel masks by {bundle.run} of the experiment {bundle.experiment}.",
        "labels": {
            "minivess": __version__,
            "champion": bundle.digest,
            "licence": bundle.licence,
        },
        "include": ["minivess/", "bundle/", "configs/", "requirements.txt"],
        # The versions are those of the lock already: nothing is looked up when it is built.
        "python": {"requirements_txt": "./requirements.txt", "lock_packages": False},
        "docker": {"distro": "debian", "python_version": PYTHON},
        "envs": [{"name": name, "value": value} for name, value in VARIABLES.items()],
    }


def build(bundle: Bundle, store: Path) -> str:
    """Build the Bento into a store, offline; return its tag. The same champion has the same tag.

    Args:
        bundle: the champion.
        store: BentoML's home; a Bento of the same tag is replaced.

    Raises:
        MinivessError: MV-SERVICE-009 BentoML did not build it; and as `stage`.
    """
    tag = f"minivess:{bundle.digest[:16]}"
    store.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="minivess-bento-") as name:
        folder = Path(name)
        stage(bundle, folder)
        shutil.rmtree(store / "bentos" / tag.replace(":", "/"), ignore_errors=True)
        options = ("--version", tag.partition(":")[2], "--output", "tag")
        done = subprocess.run(
            [sys.executable, "-m", "bentoml", "build", *options, "."],
            cwd=folder,
            env={**os.environ, "BENTOML_HOME": str(store.resolve()), "PYTHONPATH": name},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise MinivessError(
            "MV-SERVICE-009",
            what="BentoML did not build the service",
            where=tag,
            found=(done.stderr.strip() or done.stdout.strip())[-500:],
            fix="correct what it says",
        )
    return tag
