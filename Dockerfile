# syntax=docker/dockerfile:1
# FLAVOR=cpu (default) or gpu selects the build of PyTorch. FRONT=multi-model-server adds that server and Java.
# Build with `make image`; docs/image.md lists the other settings.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG FRONT=uvicorn

FROM ${BASE_IMAGE} AS build
ARG FLAVOR=cpu
ARG CUDA=none
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY constraints.txt image/requirements.lock image/build.lock ./
# Files are checked by their hash, except PyTorch's, which differs by flavor and index. `===` accepts no local version
# such as +cpu; PyTorch's CUDA version is compared with the one in the label. Triton (0.7 GB) is removed: only
# torch.compile uses it, which would also need a C compiler
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --require-hashes --no-deps --requirement requirements.lock --requirement build.lock
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    torch=$(sed -n 's/^torch==//p' constraints.txt) \
    && case "$FLAVOR" in \
         cpu) pip install --no-deps "torch==$torch+cpu" ;; \
         gpu) pip install --constraint constraints.txt "torch===$torch" \
              && pip uninstall --yes triton ;; \
         *) echo "FLAVOR is cpu or gpu, not $FLAVOR" >&2; exit 1 ;; \
       esac \
    && has=$(python -c "import torch; print(torch.version.cuda or 'none')") \
    && { [ "$has" = "$CUDA" ] || { echo "PyTorch has CUDA $has, and --build-arg CUDA is $CUDA" >&2; exit 1; }; } \
    && rm -rf /opt/venv/lib/python3*/site-packages/torch/include
ARG FRONT
COPY image/multi-model-server.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    case "$FRONT" in \
      uvicorn) ;; \
      multi-model-server) pip install --no-cache-dir --require-hashes --no-deps --no-build-isolation \
        --requirement multi-model-server.lock ;; \
      *) echo "FRONT is uvicorn or multi-model-server, not $FRONT" >&2; exit 1 ;; \
    esac
COPY pyproject.toml setup.py README.md LICENSE ./
COPY container container
COPY model_handler model_handler
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --no-cache-dir --no-deps --no-build-isolation . \
    && pip uninstall --yes --quiet setuptools wheel

FROM ${BASE_IMAGE}
ARG FRONT
# Java's package writes links into the folder of manual pages, which small base images lack
# hadolint ignore=DL3008
RUN [ "$FRONT" = uvicorn ] || { mkdir -p /usr/share/man/man1 && apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*; }
ARG VERSION=0.2.0.dev0
ARG CUDA=none
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      com.amazonaws.sagemaker.inference.cuda.verified_versions="${CUDA}" \
      org.opencontainers.image.title="SageMaker multi-model container" \
      org.opencontainers.image.description="Many models on one GPU behind SageMaker's multi-model contract" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/venv /opt/venv
# Bytecode was compiled during the build, and HOME is writable: the image runs as any user on a read-only root
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    MME_FRONT=${FRONT}
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=2s --start-period=10s \
    CMD ["python3", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ.get('SAGEMAKER_BIND_TO_PORT', '8080') + '/ping', timeout=2)"]
ENTRYPOINT ["python3", "-m", "container"]
CMD ["serve"]
