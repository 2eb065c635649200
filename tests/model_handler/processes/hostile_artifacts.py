"""Artifacts that end, block or fill the process that inspects, opens or asks them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[dict[str, Any]], object]


def changed(model: Path, directory: Path, name: str, change: Change) -> Path:
    """A copy of an artifact with one changed JSON file."""
    shutil.copytree(model, directory)
    file = directory / name
    document = json.loads(file.read_bytes())
    change(document)
    file.write_text(json.dumps(document))
    return directory


def growing(model: Path, directory: Path) -> Path:
    """Each of twelve normalizers makes a text eight times as long."""
    replace = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 8}
    normalizer = {"type": "Sequence", "normalizers": [replace] * 12}
    return changed(model, directory, "tokenizer.json", lambda it: it.update(normalizer=normalizer))


def backtracking(model: Path, directory: Path) -> Path:
    pattern = {"Regex": "(a|a|aa)+$"}
    normalizer = {"type": "Replace", "pattern": pattern, "content": "b"}
    return changed(model, directory, "tokenizer.json", lambda it: it.update(normalizer=normalizer))


def endless(model: Path, directory: Path) -> Path:
    """A chat template of 10^10 turns."""
    turns = "{% for i in range(99999) %}" * 2 + "{% endfor %}" * 2
    name = "tokenizer_config.json"
    return changed(model, directory, name, lambda it: it.update(chat_template=turns))


def swelling(model: Path, directory: Path) -> Path:
    """A chat template that makes three gigabytes of a request."""
    name = "tokenizer_config.json"
    return changed(
        model, directory, name, lambda it: it.update(chat_template="{{ 'x' * 3000000000 }}")
    )


def oversized(model: Path, directory: Path, **config: int) -> Path:
    """Its config asks for more than its weights are."""
    return changed(model, directory, "config.json", lambda it: it.update(config))


def heavy_config(model: Path, directory: Path) -> Path:
    """15 MB of JSON that take seconds and hundreds of megabytes to parse."""
    shutil.copytree(model, directory)
    (directory / "config.json").write_text("[" + "[]," * 5_000_000 + "1]")
    return directory
