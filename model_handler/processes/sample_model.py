"""A tiny classifier that comes with this package, for a process that has opened nothing yet.

Opening the first model takes a forked process several times as long as later ones: it gets copies of the
pages that it writes to.
"""

from pathlib import Path

from model_handler.artifacts.artifact import Artifact
from model_handler.artifacts.conventions import Convention
from model_handler.artifacts.properties import Properties
from model_handler.model import Entry, Model, ModelInfo

_PATH = Path(__file__).parent / "sample"
_NBYTES = 1 << 20  # more than it takes


def create() -> Model:
    info = ModelInfo("(sample)", str(_PATH))
    artifact = Artifact(
        _PATH, Convention.HUGGING_FACE, "text-classification", "float32", _NBYTES, Properties()
    )
    return Model(Entry(0, info), artifact)
