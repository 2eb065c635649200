"""The rows of one request, counted while they are made."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from model_handler.budgets import deadlines
from model_handler.budgets.limits import EXPANSION, check
from model_handler.errors import InvalidRequest
from model_handler.options import RequestLimits


class RowCount:
    """`width`: values of the answer for each token, where tokens have their own; 0: they have none."""

    def __init__(self, limits: RequestLimits, *, width: int = 0) -> None:
        self.rows = 0
        self._limits = limits
        self._width = width
        self._tokens = 0
        self._pixels = 0
        self._generated = 0

    def counted(self, rows: Iterable[Any]) -> Iterator[Any]:
        """The same rows.

        Raises InvalidRequest at the first that is too many, DeadlineExceeded, and InvalidRequest in place of
        a panic of tokenizers, which is no Exception.
        """
        made = iter(rows)
        while True:
            deadlines.check()
            try:
                row = next(made, None)
            except BaseException as error:
                if type(error).__name__ != "PanicException":
                    raise
                raise InvalidRequest("the tokenizer cannot read this input so") from None
            if row is None:
                return
            self._count(row)
            yield row

    def _count(self, row: Mapping[str, Any]) -> None:
        self.rows += 1
        check(self._limits, "units", self.rows, "rows")
        self._tokens += _numel(row, "input_ids")
        check(self._limits, "tokens", self._tokens, "tokens")
        self._pixels += _numel(row, "pixel_values") // 3
        check(self._limits, "pixels", self._pixels, "pixels of prepared images")
        values = self._tokens * self._width
        check(self._limits, "values", values, "values in the answer", times=EXPANSION)

    def generate(self, prompt: int, new: int, width: int) -> int:
        """Count the tokens that a row generates. `width`: beams, or returned sequences.

        Returns how many tokens the row keeps in memory beside its prompt.
        """
        kept = new * width + prompt * (width - 1)
        self._generated += kept
        what = "generated tokens (new tokens × beams or sequences × rows)"
        check(self._limits, "generated_tokens", self._generated, what)
        return kept


def _numel(row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    return value.numel() if isinstance(value, torch.Tensor) else 0
