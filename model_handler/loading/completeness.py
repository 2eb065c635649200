"""Check that a checkpoint has all weights that its task needs."""

from typing import Any

from model_handler.errors import ModelLoadFailed


def check(info: dict[str, Any], task: str) -> None:
    """Raises ModelLoadFailed for missing or misshapen weights: transformers would make them random."""
    if mismatched := info["mismatched_keys"]:
        name, found, wanted = min(mismatched)
        sizes = f"{tuple(found)} in the file, {tuple(wanted)} by config.json"
        raise ModelLoadFailed(f"{len(mismatched)} weights have the wrong shape: {name} is {sizes}")
    missing = [key for key in info["missing_keys"] if not _unused(key, task)]
    missing.sort(key=lambda key: (key.count("."), key))  # the head before deeply nested layers
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ModelLoadFailed(f"no weights for {task}: {', '.join(missing[:3])}{more} are missing")


def _unused(key: str, task: str) -> bool:
    """Poolers do not contribute to features, and checkpoints of masked language models have none."""
    return task.endswith("feature-extraction") and "pooler." in key
