"""The common beginning of the generated pictures: a background for light and dark pages."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Card:
    width: int
    height: int
    background: str
    border: str

    def svg(self, title: str, style: str, parts: Iterable[str]) -> str:
        size = f'width="{self.width}" height="{self.height}"'
        view = f'viewBox="0 0 {self.width} {self.height}"'
        inner = f'x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="8"'
        lines = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {view} {size} role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style>",
            f'<rect {inner} fill="{self.background}" stroke="{self.border}"/>',
            *parts,
            "</svg>",
        )
        return "\n".join(lines) + "\n"
