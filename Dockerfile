# One image for CPU and CUDA: PyPI's torch, which uv.lock pins, has both.
#
#   docker build -t minivess .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD":/work minivess snakemake --cores all
#
# docs/how-to/run-in-a-container.md has the rest.

FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

FROM ghcr.io/quarto-dev/quarto:1.9.38 AS quarto

FROM docker.io/library/python:3.12-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp minivess \
    && install -d -o minivess -g minivess /work /data
COPY --from=quarto /opt/quarto /opt/quarto
WORKDIR /opt/minivess
# An optional part of pyproject.toml, such as cluster.
ARG EXTRA=""
COPY pyproject.toml uv.lock ./
# Gigabytes that only a new lock changes. They are installed where they stay, not copied from a
# stage of their own, which would need the space twice; uv and /tmp are only there meanwhile.
# The secret ca: certificates to trust where a proxy signs everything anew.
RUN --mount=type=bind,from=uv,target=/opt/uv \
    --mount=type=tmpfs,target=/tmp \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && export UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never \
    && /opt/uv/uv sync --python /usr/local/bin/python3.12 --locked --no-dev --group paper \
        --extra serve ${EXTRA:+--extra "$EXTRA"} --no-install-project --compile-bytecode \
    && chmod -R go-w .venv
COPY . .
# An editable install: the package stays where its Snakefile, configs and paper lie.
RUN --mount=type=bind,from=uv,target=/opt/uv \
    --mount=type=tmpfs,target=/tmp \
    --mount=type=cache,target=/root/.cache/uv \
    --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi \
    && export UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never \
    && /opt/uv/uv sync --python /usr/local/bin/python3.12 --locked --no-dev --group paper \
        --extra serve ${EXTRA:+--extra "$EXTRA"} --no-compile-bytecode \
    && .venv/bin/python -m compileall -q --invalidation-mode unchecked-hash minivess \
    && find . -path ./.venv -prune -o -exec chmod u=rwX,go=rX {} +
# Whoever runs it, with or without a name and a home: what is written apart from results goes
# to /tmp. The code is that of the image, whatever lies in the working folder (PYTHONSAFEPATH).
# With --init a stop reaches all processes and not only Snakemake, which would wait for its jobs.
ENV PATH=/opt/minivess/.venv/bin:/opt/quarto/bin:$PATH \
    HOME=/tmp \
    USER=minivess \
    LOGNAME=minivess \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONSAFEPATH=1 \
    TINI_KILL_PROCESS_GROUP=1 \
    SNAKEMAKE_PROFILE="[/opt/minivess/profiles/default, /opt/minivess/profiles/container]" \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    GRADIO_ANALYTICS_ENABLED=False \
    HF_HUB_DISABLE_TELEMETRY=1 \
    ORT_DISABLE_TELEMETRY=1 \
    HF_HUB_OFFLINE=1 \
    LITELLM_LOCAL_MODEL_COST_MAP=True
ARG MINIVESS_GIT_COMMIT=unknown
ENV MINIVESS_GIT_COMMIT=$MINIVESS_GIT_COMMIT
LABEL org.opencontainers.image.title="MiniVess" \
      org.opencontainers.image.description="From raw 3D vessel volumes to tables, figures and a paper" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$MINIVESS_GIT_COMMIT"
USER 10001:10001
WORKDIR /work
CMD ["snakemake", "--cores", "all"]
