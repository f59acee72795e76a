"""Stand-ins for the base images, under their real names, where no registry can be reached.

Debian from its packages, Python from the machine, uv from its wheel, and instead of Quarto, which
no package index has, a folder that says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from container.engine import Engine

DEBIAN = "docker.io/library/debian:bookworm-slim"
# What the Python image adds to Debian, as far as Python's own modules link to it.
LIBRARIES = (
    "ca-certificates netbase tzdata libbz2-1.0 libexpat1 libffi8 libgdbm6 liblzma5 libncursesw6 "
    "libnsl2 libreadline8 libsqlite3-0 libssl3 libuuid1 zlib1g"
)
FROM = re.compile(r"^FROM\s+(?P<image>\S+)(?:\s+AS\s+(?P<stage>\S+))?\s*$", re.MULTILINE)
NO_QUARTO = "Stands in for Quarto where its image cannot be pulled: there is no Quarto in here.\n"
PYTHON_FILE = f"""\
FROM {DEBIAN}
COPY local /usr/local
RUN ldconfig \\
    && ln -s python3.12 /usr/local/bin/python3 && ln -s python3.12 /usr/local/bin/python \\
    && python3 -c "import bz2, ctypes, lzma, readline, sqlite3, ssl, uuid, zlib"
ENV LANG=C.UTF-8
"""


def base_images(dockerfile: str) -> list[str]:
    """Images that a Dockerfile builds on, without its own stages, each once.

    >>> base_images("FROM a:1 AS x\\nFROM b:2\\nFROM x AS y\\n")
    ['a:1', 'b:2']
    """
    found = FROM.findall(dockerfile)
    stages = {stage for _, stage in found if stage}
    return list(dict.fromkeys(image for image, _ in found if image not in stages))


def tag(image: str) -> str:
    """What follows the name.

    >>> tag("ghcr.io/astral-sh/uv:0.13.9")
    '0.13.9'
    """
    return image.rpartition(":")[2]


def make_stand_ins(engine: Engine, images: list[str], folder: Path) -> None:
    """Make those of the images that are not there yet.

    Raises:
        ValueError: an image that has no stand-in.
    """
    for image in images:
        if engine.has(image):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        name = image.rpartition(":")[0].rpartition("/")[2]
        if name == "python":
            _debian(engine, folder)
            _python(folder, tag(image))
        elif name == "uv":
            _uv(folder, tag(image))
        elif name == "quarto":
            _quarto(folder)
        else:
            raise ValueError(f"no stand-in for {image}")
        engine.build(folder, image)
        shutil.rmtree(folder)


def _debian(engine: Engine, folder: Path) -> None:
    if engine.has(DEBIAN):
        return
    archive = folder / "debian.tar"
    packages = ",".join(LIBRARIES.split())
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}"]
    subprocess.run([*command, "bookworm", str(archive)], check=True)
    engine.call("import", str(archive), DEBIAN)
    archive.unlink()


def _python(folder: Path, wanted: str) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if wanted.partition("-")[0] != version:
        message = f"the image is python:{wanted}, the environment has Python {version}"
        raise ValueError(message)
    prefix, name = Path(sys.base_prefix), f"python{version}"
    local = folder / "local"
    (local / "bin").mkdir(parents=True)
    shutil.copy2(prefix / "bin" / name, local / "bin" / name)
    left_out = shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a")
    shutil.copytree(prefix / "lib" / name, local / "lib" / name, ignore=left_out)
    (local / "lib" / name / "site-packages").mkdir()
    for library in (prefix / "lib").glob("libpython3*.so*"):
        shutil.copy2(library, local / "lib" / library.name, follow_symlinks=False)
    (folder / "Dockerfile").write_text(PYTHON_FILE.replace("python3.12", name), encoding="utf-8")


def _uv(folder: Path, version: str) -> None:
    python = Path(sys.base_prefix) / "bin" / "python3"
    options = ["--quiet", "--no-deps", "--dest", str(folder)]
    command = [str(python), "-m", "pip", "download", *options, f"uv=={version}"]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(f"uv-{version}.data/scripts/uv")
    (folder / "uv").write_bytes(content)
    (folder / "uv").chmod(0o755)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY uv /uv\n", encoding="utf-8")


def _quarto(folder: Path) -> None:
    (folder / "opt" / "quarto").mkdir(parents=True)
    (folder / "opt" / "quarto" / "NOT-QUARTO.txt").write_text(NO_QUARTO, encoding="utf-8")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY opt /opt\n", encoding="utf-8")
