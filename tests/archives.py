"""Archives of artifacts, as the platform downloads them."""

import io
import tarfile
from pathlib import Path


def packed(directory: Path) -> bytes:
    """A `.tar.gz` with the directory's files at its root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(directory, ".")
    return buffer.getvalue()
