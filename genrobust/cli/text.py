"""Text of others on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Without what a terminal would obey.

    Example:
        >>> printable("a \\x1b[31mred\\nname")
        'a ?[31mred?name'
    """
    return "".join(c if c.isprintable() else "?" for c in text)
