"""Generated parts of a page, between two comments with a name."""

from collections.abc import Iterable


def filled(text: str, name: str, lines: Iterable[str]) -> str:
    """`text` with `lines` between the two comments. Raises ValueError if they do not exist."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"the page has lost its place for {name!r}")
    return before + begin + "".join(f"{line}\n" for line in lines) + end + after
