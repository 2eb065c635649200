# syntax=docker/dockerfile:1
# FLAVOR=cpu (default) or gpu: which build of PyTorch goes in. `make image` passes what the machine needs;
# docs/image.md tells what else can be set.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG FLAVOR=cpu
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY constraints.txt image/requirements.lock ./
# Every wheel by its hash but PyTorch's, of which each flavor and index has another file
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --require-hashes --no-deps --requirement requirements.lock
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    torch=$(sed -n 's/^torch==//p' constraints.txt) \
    && case "$FLAVOR" in \
         cpu) pip install --no-deps "torch==$torch+cpu" ;; \
         gpu) pip install --constraint constraints.txt "torch==$torch" ;; \
         *) echo "FLAVOR is cpu or gpu, not $FLAVOR" >&2; exit 1 ;; \
       esac \
    && rm -rf /opt/venv/lib/python3*/site-packages/torch/include
COPY setup.py README.md ./
COPY container container
COPY model_handler model_handler
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    pip install --no-cache-dir --no-deps --no-build-isolation . \
    && pip uninstall --yes --quiet pip setuptools wheel

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG CUDA=none
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      com.amazonaws.sagemaker.inference.cuda.verified_versions="${CUDA}" \
      org.opencontainers.image.title="SageMaker multi-model container" \
      org.opencontainers.image.description="Many models on one GPU behind SageMaker's multi-model contract" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/venv /opt/venv
# Bytecode was written by the build; a read-only root and any user shall do
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=2s --start-period=10s \
    CMD ["python3", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ.get('SAGEMAKER_BIND_TO_PORT', '8080') + '/ping', timeout=2)"]
ENTRYPOINT ["python3", "-m", "container"]
CMD ["serve"]
