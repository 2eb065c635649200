"""Word lists from plain text, which is easier to read and extend than lists of quoted strings."""

from __future__ import annotations


def words(text: str) -> list[str]:
    """Split at white space."""
    return text.split()


def phrases(text: str) -> list[str]:
    """Split at bars and line ends."""
    return [
        phrase.strip() for line in text.split("\n") for phrase in line.split("|") if phrase.strip()
    ]


def pairs(text: str) -> list[tuple[str, str]]:
    """Phrases of the form english=german; either side may be empty."""
    sides = (
        entry.partition("=") for line in text.strip("\n").split("\n") for entry in line.split("|")
    )
    return [(english, german) for english, _, german in sides]
