"""The same artifacts with a `code/inference.py`, so that each model runs in an isolated process.

Their model_fn loads the model as in the documentation of the Hugging Face toolkit; the other functions are
the defaults.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from tests.contract.artifacts import Zoo

MIB = 1 << 20
DEVICE_MEMORY_NBYTES = 2048 * MIB  # a process uses some memory besides its model
ONE_NBYTES = 24 * MIB  # about the memory of A's process
BETWEEN_ONE_AND_TWO_NBYTES = 36 * MIB
BALLAST_NBYTES = 64 * MIB
CODE = """
import json
from pathlib import Path

from transformers import AutoImageProcessor, AutoTokenizer, pipeline

TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForImageClassification": "image-classification",
    "LMHeadModel": "text-generation",
}

def model_fn(model_dir):
    (architecture,) = json.loads(Path(model_dir, "config.json").read_text())["architectures"]
    (task,) = (TASKS[head] for head in TASKS if architecture.endswith(head))
    if task == "image-classification":
        reader = {"image_processor": AutoImageProcessor.from_pretrained(model_dir)}
    else:
        Path(model_dir, "tokenizer.json").stat()  # without it transformers makes up an empty one
        reader = {"tokenizer": AutoTokenizer.from_pretrained(model_dir)}
    return pipeline(task, model=model_dir, device="cpu", **reader)
"""
TINY_CODE = """
def transform_fn(model, body, content_type, accept):
    return b"[]"

def model_fn(model_dir):
    return None
"""
HOARDING_CODE = """
import json

import torch

def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    (count,) = json.loads(body)["inputs"]
    return json.dumps(torch.zeros(count)[:1].tolist())
"""


def ballast(nbytes: int) -> str:
    """Code that makes the model_fn above hold this many more bytes."""
    return f"""
import numpy

small = model_fn

def model_fn(model_dir):
    model = small(model_dir)
    model.ballast = numpy.ones({nbytes}, numpy.uint8)
    return model
"""


class CodeZoo(Zoo):
    """Artifacts below one directory, each with code."""

    device_memory_nbytes = DEVICE_MEMORY_NBYTES
    slack_nbytes = 8 * MIB
    process = "mme-isolated"
    isolated = True
    killed = 507

    def _at(self, name: str, write: Callable[[Path], object]) -> Path:
        directory = super()._at(name, write)
        _write(directory, CODE)
        return directory

    @cached_property
    def featherweight(self) -> Path:
        return super()._at("featherweight", lambda to: _write(to, TINY_CODE))

    @cached_property
    def hoarding(self) -> Path:
        return super()._at("hoarding", lambda to: _write(to, HOARDING_CODE))

    @cached_property
    def big(self) -> Path:
        more = ballast(DEVICE_MEMORY_NBYTES - BETWEEN_ONE_AND_TWO_NBYTES)
        return self._hinted("big", DEVICE_MEMORY_NBYTES - MIB, more)

    @cached_property
    def huge(self) -> Path:
        return self._hinted("huge", 4 * DEVICE_MEMORY_NBYTES, "")

    def dressed(self, directory: Path) -> Path:
        _write(directory, CODE + ballast(BALLAST_NBYTES))
        return directory

    def held_nbytes(self, _: Path) -> int:
        return ONE_NBYTES + BALLAST_NBYTES

    def _hinted(self, name: str, nbytes: int, more: str) -> Path:
        """A with a declared memory size, since the memory of custom code does not follow from its files."""
        directory = self.copy(name, self.a)
        (directory / "serving.properties").write_text(f"required_memory_mb={nbytes // MIB}\n")
        with (directory / "code/inference.py").open("a") as code:
            code.write(more)
        return directory


def _write(directory: Path, code: str) -> None:
    (directory / "code").mkdir(parents=True)
    (directory / "code/inference.py").write_text(code)
