"""Word lists written as text: easier to read and to extend than rows of quotes."""

from __future__ import annotations


def words(text: str) -> list[str]:
    """Separated by white space."""
    return text.split()


def phrases(text: str) -> list[str]:
    """Separated by bars or line ends."""
    return [
        phrase.strip() for line in text.split("\n") for phrase in line.split("|") if phrase.strip()
    ]


def pairs(text: str) -> list[tuple[str, str]]:
    """Phrases of the form english=german; either side may be empty."""
    sides = (
        entry.partition("=") for line in text.strip("\n").split("\n") for entry in line.split("|")
    )
    return [(english, german) for english, _, german in sides]
