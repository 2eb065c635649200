"""Which memory of this process is an unmodified mapping of a file, read from /proc/self/smaps.

The memory itself is not read, so that no page is faulted in.
"""

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

SMAPS = Path("/proc/self/smaps")
_AREA = re.compile(r"([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) \S+ \d+ +(.*)")
# Fields that count private copies of pages, in memory or swapped out: the mapping was written to
_OWN = ("Anonymous:", "Swap:")


@dataclass(frozen=True, slots=True)
class _Area:
    start: int
    end: int
    offset: int
    path: str


class FilePages:
    """A snapshot of the mappings of `files`: later writes and mappings are not seen."""

    def __init__(self, files: Iterable[Path], source: Path = SMAPS) -> None:
        paths = {os.path.realpath(file) for file in files}
        lines = source.read_text().splitlines() if paths and source.is_file() else []
        self._areas = sorted(_unchanged(lines, paths), key=lambda area: area.start)

    def place(self, tensor: torch.Tensor) -> tuple[str, int] | None:
        """The file, and the offset in it, that the tensor's memory maps; None for any other memory."""
        begin = tensor.data_ptr()
        at = bisect_right(self._areas, begin, key=lambda area: area.start) - 1
        if at < 0 or not tensor.is_contiguous():
            return None
        area = self._areas[at]
        if begin + tensor.numel() * tensor.element_size() > area.end:
            return None
        return area.path, area.offset + begin - area.start

    def same(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Whether both tensors map the same bytes of a file. False does not mean that their values differ."""
        alike = one.dtype is other.dtype and one.shape == other.shape
        return alike and (place := self.place(one)) is not None and place == self.place(other)


def _unchanged(lines: Iterable[str], paths: set[str]) -> Iterator[_Area]:
    found: _Area | None = None
    for line in lines:
        if area := _AREA.match(line):
            if found is not None:
                yield found
            start, end, offset = (int(number, 16) for number in area.groups()[:3])
            found = _Area(start, end, offset, area[4]) if area[4] in paths else None
        elif found is not None and line.startswith(_OWN) and int(line.split()[1]):
            found = None
    if found is not None:
        yield found
