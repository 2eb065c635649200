"""Cache of tokenizers and other processors: models with identical processor files share one object.

An object lives as long as a model uses it, and the last few unused ones are kept. Sharing saves memory: a
tokenizer takes several megabytes, more than the rest of a small idle model, and fine-tuned models mostly have
the same one. Keeping saves time: building a tokenizer is most of the time of reloading a small model.
"""

import hashlib
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import transformers

from model_handler.artifacts import config_limits, documents
from model_handler.errors import ModelLoadFailed

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "bpe.codes", "normalizer.json", "target_vocab.json"),
    *("chat_template.json", "chat_template.jinja", "source.spm", "target.spm"),
)
_TOKENIZER_SUFFIXES = (".model", ".spm", ".tiktoken", ".bpe", ".vocab")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")

KEPT = 8  # limit of objects that no model uses
KEPT_ENTRIES = 300_000  # limit of their vocabulary entries, about 250 bytes each

Build = Callable[[], Any]


class Processors:
    """One per worker. `keep` is called on the unloading thread, all other methods on the loading thread."""

    def __init__(self, kept_entries: int = KEPT_ENTRIES) -> None:
        self._kept_entries = kept_entries
        self._alive: weakref.WeakValueDictionary[tuple[str, ...], Any] = (
            weakref.WeakValueDictionary()
        )
        self._kept: deque[Any] = deque(maxlen=KEPT)

    def __len__(self) -> int:
        return len(self._alive)

    def tokenizer(self, path: Path, config: Any, task: str, max_tokens: int | None) -> Any:
        """`task` and `max_tokens` are part of the cache key, because both modify the object."""
        files = list(_tokenizer_files(path))
        if not files:
            raise ModelLoadFailed("the artifact has no tokenizer (tokenizer.json, vocab.txt, …)")
        key = ("tokenizer", task, str(max_tokens), config.model_type, _digest(files))
        return self._shared(key, lambda: _tokenizer(path, files, config, max_tokens))

    def keep(self, objects: Iterable[Any]) -> None:
        """Keep the processors of a model that is unloaded. Beyond the limits the oldest are evicted."""
        for each in objects:
            if each not in self._kept:
                self._kept.append(each)
        while sum(map(_entries, self._kept)) > self._kept_entries:
            self._kept.popleft()

    def image_processor(self, path: Path) -> Any:
        # transformers 5.17 exports it at top level only with torchvision, which it does not need
        from transformers.models.auto.image_processing_auto import AutoImageProcessor

        return self._processor("image processor", path, AutoImageProcessor)

    def feature_extractor(self, path: Path) -> Any:
        return self._processor("feature extractor", path, transformers.AutoFeatureExtractor)

    def _processor(self, noun: str, path: Path, kind: Any) -> Any:
        files = [path / name for name in _PROCESSOR_FILES if (path / name).is_file()]
        if not files:
            raise ModelLoadFailed(f"the artifact has no {noun} (preprocessor_config.json)")
        for file in files:
            config_limits.check_processor(documents.read(file), file.name)
        return self._shared((noun, _digest(files)), lambda: _from(kind, path))

    def _shared(self, key: tuple[str, ...], build: Build) -> Any:
        found = self._alive.get(key)
        if found is None:
            found = self._alive[key] = build()
        return found


def _entries(kept: Any) -> int:
    return len(kept) if isinstance(kept, transformers.PreTrainedTokenizerBase) else 0


def has_tokenizer(path: Path) -> bool:
    return any(True for _ in _tokenizer_files(path))


def _tokenizer_files(path: Path) -> Iterator[Path]:
    for file in sorted(path.iterdir()):
        if file.name in _TOKENIZER_FILES or file.name.endswith(_TOKENIZER_SUFFIXES):
            yield file


def _tokenizer(path: Path, files: list[Path], config: Any, max_tokens: int | None) -> Any:
    for file in files:
        if file.suffix == ".json":
            documents.check_table(file)
    tokenizer = _from(transformers.AutoTokenizer, path, config=config)
    if max_tokens is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, max_tokens)
    return tokenizer


def _from(kind: Any, path: Path, **options: Any) -> Any:
    return kind.from_pretrained(
        str(path), local_files_only=True, trust_remote_code=False, **options
    )


def _digest(files: list[Path]) -> str:
    """Digest of names and contents: the same content under another name has another meaning."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as stream:
            inner = hashlib.file_digest(stream, "blake2b").digest()
        digest.update(file.name.encode() + b"\0" + inner)
    return digest.hexdigest()
