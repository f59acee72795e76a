# `just` lists the recipes. Every one of them runs in the environment that uv.lock pins.

set positional-arguments

# An installed Python for uv: pyenv's, whose shims uv cannot look through, or whatever uv finds.
export UV_PYTHON := env("UV_PYTHON", `P=$(ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python 2>/dev/null | head -n 1); if [ -n "$P" ]; then echo "$P"; else uv python find --system '>=3.12' 2>/dev/null || true; fi`)

# List the recipes
default:
    @just --list --unsorted

# Run an experiment: just experiment [NAME] [data] [key=value ...]
experiment name="demo" *args: _environment
    @uv run --no-sync minivess experiment "$@"

# Show what an experiment would do, without doing it
plan name="demo" *args: _environment
    @uv run --no-sync minivess experiment --dry-run "$@"

# Search better config keys for an experiment's trainings: just sweep [NAME] [--trials N] [key=value ...]
sweep name="demo" *args: _environment
    @uv run --no-sync minivess sweep "$@"

# Print the final summary of an experiment
summary name="demo": _environment
    @uv run --no-sync minivess summary --experiment "$1"

# Run SQL over the tables of an experiment: just query demo "SELECT * FROM summary"
query name sql: _environment
    @uv run --no-sync minivess query --experiment "$1" "$2"

# Run an experiment again from nothing and compare every byte: just verify [NAME]
verify name="demo" *args: _environment
    @uv run --no-sync minivess verify "$@"

# Print what a result was made from, or check it: just trace results/demo/summary.txt [--check]
trace path *args: _environment
    @uv run --no-sync minivess trace "$@"

# Pack a finished experiment for publication, as an RO-Crate: just crate [NAME]
crate *args: _environment
    @name=demo; case "${1:--}" in -*) ;; *) name="$1"; shift ;; esac; \
        uv run --no-sync minivess crate --experiment "$name" "$@"

# Render the paper of an experiment (needs Quarto)
paper name="demo" *args: _environment
    @uv run --no-sync minivess experiment "$@" paper

# Prefect server, its pages and a schedule: just flows [--experiment NAME] [--cron "0 2 * * *"]
flows *args: _environment
    @uv run --no-sync minivess flow start "$@"

# Open the runs of all experiments in the browser (MLflow): just ui [PORT]
ui *args: _environment
    @case "${1:--}" in -*) ;; *) set -- --port "$@" ;; esac; uv run --no-sync minivess ui "$@"

# Serve a champion over HTTP and on a page: just serve [NAME] [--kind overlap] [--no-page]
serve *args: _environment
    @name=demo; case "${1:--}" in -*) ;; *) name="$1"; shift ;; esac; \
        uv run --no-sync minivess serve --experiment "$name" "$@"

# Run the tests: just test [pytest arguments]
test *args: _environment
    @uv run --no-sync pytest -n auto --dist worksteal -q "$@"

# Kill and starve a small experiment N times and compare every byte: just chaos [N] [--seed S]
chaos n="20" *args: _environment
    @PYTHONPATH=tests uv run --no-sync python -m chaos "$@"

# Check format, lint, types, import layers and the workflow's format
check: _environment
    uv run --no-sync ruff format --check .
    uv run --no-sync ruff check .
    uv run --no-sync snakefmt --check Snakefile workflow
    uv run --no-sync mypy
    uv run --no-sync lint-imports

# Run all benchmarks, or one: just bench [NAME] [--write] ...; just bench --dry-run lists them
bench *args: _environment
    @name=; case "${1:--}" in -*) ;; *) name="$1"; shift ;; esac; case "$name" in \
        training|training_gpu|inference|comparison) UV_PROJECT_ENVIRONMENT=.venv-peers \
            uv run --locked --group peers python "benchmarks/$name.py" "$@" ;; \
        metrics|losses|patches|service|coverage) uv run --no-sync python "benchmarks/$name.py" "$@" ;; \
        *) JUST="{{ just_executable() }}" uv run --no-sync python benchmarks/everything.py ${name:+--only "$name"} "$@" ;; \
        esac

# Record the committed digests anew, after a change that is meant to change results
golden: _environment
    @PYTHONPATH=tests uv run --no-sync python tests/golden/record.py

# Compare an experiment on this CPU with the same on emulated ones: just emulate [CPU ...]
emulate *cpus: _environment
    @tests/cpu/run "$@"

# Put everything into the project's format
format: _environment
    uv run --no-sync ruff format .
    uv run --no-sync ruff check --fix .
    uv run --no-sync snakefmt Snakefile workflow

# Write the generated pages of docs/reference
reference: _environment
    @uv run --no-sync python -m minivess.reference

# Install the hooks that check every commit (pre-commit)
hooks: _environment
    @uv run --no-sync pre-commit install

# Write sbom.cdx.json: every package of the environment, as CycloneDX 1.6
sbom file="sbom.cdx.json": _environment
    @uvx --from cyclonedx-bom==7.5.0 cyclonedx-py environment --spec-version 1.6 \
        --output-reproducible --pyproject pyproject.toml --output-format JSON \
        --output-file "$1" .venv

# Install or update the environment, only where the lock is newer than it. Extras that somebody has
# installed, such as cluster, stay.
_environment:
    @[ .venv/.synced -nt uv.lock ] && [ .venv/.synced -nt pyproject.toml ] \
        || { uv sync --locked --inexact && touch .venv/.synced; }
