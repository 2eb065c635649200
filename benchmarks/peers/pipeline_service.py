"""A multi-model-server service: the transformers pipeline named by config.json, with JSON in and out."""

import json
from pathlib import Path
from typing import Any

from transformers import pipeline

_TASKS = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForConditionalGeneration": "summarization",
    "MTModel": "translation",
}
_loaded: list[Any] = []


def handle(data: Any, context: Any) -> Any:
    if not _loaded:
        directory = Path(context.system_properties["model_dir"])
        _loaded.append(pipeline(_task(directory), model=str(directory)))
    if data is None:
        return None
    return [json.dumps(_loaded[0](_inputs(each)), default=float) for each in data]


def _task(directory: Path) -> str:
    architecture = json.loads((directory / "config.json").read_text())["architectures"][0]
    return next(task for end, task in _TASKS.items() if architecture.endswith(end))


def _inputs(request: Any) -> str:
    body = request.get("body", request.get("data"))
    document = json.loads(body) if isinstance(body, str | bytes | bytearray) else body
    text: str = document["inputs"]
    return text
