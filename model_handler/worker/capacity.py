"""How much of one model fits into a forward, learned from where memory ran out.

Kept by length, since attention's memory grows with its square. Always true: a ceiling is below every
forward that failed since it was last passed, and rises again slowly, because what ran out may come back.
"""

GROWTH = 1 / 16


class ForwardCapacity:
    """Of one model, in padded tokens: rows times the longest. One thread at a time."""

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}

    def bound(self, length: int, budget: int) -> int:
        """Tokens that rows of up to `length` may hold together, at most `budget`."""
        return min(budget, self._tokens.get(_sort(length), budget))

    def failed(self, rows: int, length: int) -> None:
        self._tokens[_sort(length)] = rows * length // 2

    def passed(self, rows: int, length: int) -> None:
        """Nothing happens well below the ceiling: that says nothing about it."""
        known = self._tokens.get(_sort(length))
        if known is not None and (rows + 1) * length > known:
            self._tokens[_sort(length)] = known + max(1, int(known * GROWTH))


def _sort(length: int) -> int:
    """Lengths of one power of two."""
    return length.bit_length()
