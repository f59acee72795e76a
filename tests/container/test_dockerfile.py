"""The Dockerfile without an engine: linted, buildable with stand-ins, unprivileged, complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml
from container import bases

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "Dockerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of every instruction, lines joined, comments gone."""
    lines = [line for line in TEXT.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, rest) for word, rest in pairs]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def environment() -> dict[str, str]:
    words = " ".join(rest for word, rest in last_stage() if word == "ENV")
    return {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', words)}


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, PROJECT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:latest\nRUN cd /tmp\n", encoding="utf-8")
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, tmp_path / "Dockerfile"], capture_output=True, check=False)
    assert done.returncode == 1


def test_every_base_has_a_tag_and_can_be_replaced() -> None:
    """A digest would rule out stand-ins; heredocs and a syntax line need a newer builder."""
    images = bases.base_images(TEXT)
    assert len(images) == 3
    for image in images:
        assert "@" not in image
        assert re.fullmatch(r"[\d.]+[\w.-]*", bases.tag(image)), image
        assert image.count("/") == 2, "registry, owner and name: podman guesses none"
    assert "<<" not in TEXT
    assert not re.search(r"^#\s*syntax=", TEXT, re.MULTILINE)


def test_it_does_not_run_as_root() -> None:
    users = [rest for word, rest in last_stage() if word == "USER"]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", users[-1])
    after = last_stage()[last_stage().index(("USER", users[-1])) :]
    assert not [rest for word, rest in after if word in ("RUN", "COPY", "ADD")]


def test_nothing_is_left_behind_by_the_installation() -> None:
    runs = [rest for word, rest in last_stage() if word == "RUN"]
    assert not [rest for rest in runs if re.search(r"apt-get|pip install|curl|wget", rest)]
    syncs = [rest for rest in runs if "uv sync" in rest]
    assert len(syncs) == 2
    for rest in syncs:
        assert "--mount=type=cache,target=/root/.cache/uv" in rest
        assert "--locked --no-dev --group paper" in rest
        # No secret, no certificate of its own, and uv trusts nothing.
        assert "if [ -s /run/secrets/ca ]; then" in rest
    copied = [rest for word, rest in last_stage() if word == "COPY"]
    assert not [rest for rest in copied if "from=uv" in rest], "uv is mounted, not copied"


def test_what_is_written_outside_of_the_results_goes_to_tmp() -> None:
    values = environment()
    for name in ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"):
        assert values[name].startswith("/tmp"), name
    assert values["NVIDIA_VISIBLE_DEVICES"] == "all"


def test_nothing_reports_home() -> None:
    from minivess.environment import PRIVATE

    values = environment()
    for name, value in PRIVATE.items():
        # Set for the servers, which do not pass through our own code.
        assert name.startswith("BENTOML") or values[name] == value, name


def test_the_profiles_are_there_and_name_the_snakefile() -> None:
    folder = next(rest for word, rest in last_stage() if word == "WORKDIR")
    for name in environment()["SNAKEMAKE_PROFILE"].strip("[]").split(", "):
        path = PROJECT / Path(name).relative_to(folder) / "config.yaml"
        assert path.is_file(), name
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert profile == {"snakefile": f"{folder}/Snakefile"}


def test_the_version_of_python_is_one_that_is_tested() -> None:
    (image,) = [name for name in bases.base_images(TEXT) if "/python:" in name]
    version = bases.tag(image).partition("-")[0]
    assert f"/usr/local/bin/python{version} " in TEXT
    assert f">={version}" in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")


def allowed() -> list[str]:
    lines = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines, "everything is left out that is not named"
    return [line[1:] for line in lines if line.startswith("!")]


def test_the_context_has_what_the_image_needs_and_nothing_more() -> None:
    needed = {"pyproject.toml", "uv.lock", "README.md", "LICENSE", "CITATION.cff", "Snakefile"}
    needed |= {"minivess", "workflow", "profiles", "configs", "paper"}
    assert set(allowed()) == needed
    assert all((PROJECT / name).exists() for name in needed)
