"""The part of a page that is written from results: what lies between two comments with a name."""

from collections.abc import Iterable


def filled(text: str, name: str, lines: Iterable[str]) -> str:
    """`text` with `lines` in that place. Raises ValueError where it has no such place."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the page has lost its place for {name!r}")
    return before + begin + "".join(f"{line}\n" for line in lines) + end + after
