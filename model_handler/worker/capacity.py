"""How many tokens of one model fit into a forward, learned from forwards that ran out of memory.

Limits are kept per class of lengths, since the memory of attention grows with the square of the length.
Invariant: after a forward that ran out of memory, the limit is half of its tokens. It rises slowly with
forwards that succeed close to it, because memory may become free again.
"""

GROWTH = 1 / 16


class ForwardCapacity:
    """The limits of one model, in padded tokens: rows times the longest row. Not thread-safe.

    `limited`: a forward ran out of memory before.
    """

    def __init__(self) -> None:
        self.limited = False
        self._tokens: dict[int, int] = {}

    def bound(self, length: int, budget: int) -> int:
        """The limit for rows of up to `length` tokens, at most `budget`."""
        return min(budget, self._tokens.get(_length_class(length), budget))

    def failed(self, rows: int, length: int) -> None:
        self.limited = True
        self._tokens[_length_class(length)] = rows * length // 2

    def passed(self, rows: int, length: int) -> None:
        """Raise the limit if one more row would have exceeded it; smaller forwards do not test the limit."""
        known = self._tokens.get(_length_class(length))
        if known is not None and (rows + 1) * length > known:
            self._tokens[_length_class(length)] = known + max(1, int(known * GROWTH))


def _length_class(length: int) -> int:
    """The same number for all lengths from one power of two to the next."""
    return length.bit_length()
