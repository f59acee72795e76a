# `just` lists the recipes. Every one of them runs in the environment that uv.lock pins.

set positional-arguments

export UV_PYTHON := env("UV_PYTHON", `uv python find --system '>=3.12' 2>/dev/null || ls -d ~/.pyenv/versions/3.1[2-9]*/bin/python 2>/dev/null | head -n 1 || true`)
export UV_LOCKED := "1"

# List the recipes
default:
    @just --list --unsorted

# Run an experiment: just experiment [NAME] [data] [key=value ...]
experiment name="demo" *args:
    @uv run minivess experiment "$@"

# Show what an experiment would do, without doing it
plan name="demo" *args:
    @uv run minivess experiment --dry-run "$@"

# Print the final summary of an experiment
summary name="demo":
    @uv run minivess summary --experiment "{{ name }}"

# Run SQL over the tables of an experiment: just query demo "SELECT * FROM summary"
query name sql:
    @uv run minivess query --experiment "$1" "$2"

# Render the paper of an experiment (needs Quarto)
paper name="demo" *args:
    @uv run minivess experiment "$@" paper

# Open the runs of all experiments in the browser (MLflow)
ui port="5000":
    @DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true LITELLM_LOCAL_MODEL_COST_MAP=True \
        uv run mlflow ui --backend-store-uri "${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" \
        --port "{{ port }}" --workers 1

# Run the tests: just test [pytest arguments]
test *args:
    @uv run pytest -n auto --dist loadgroup -q "$@"

# Check format, lint, types, import layers and the workflow's format
check:
    uv run ruff format --check .
    uv run ruff check .
    uv run snakefmt --check Snakefile workflow
    uv run mypy
    uv run lint-imports

# Put everything into the project's format
format:
    uv run ruff format .
    uv run ruff check --fix .
    uv run snakefmt Snakefile workflow

# Write the generated pages of docs/reference
reference:
    @uv run python -m minivess.reference
