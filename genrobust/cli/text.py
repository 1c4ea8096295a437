"""Words on a terminal."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """
    >>> counted(1, "shard"), counted(3, "source")
    ('1 shard', '3 sources')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Text of others without what a terminal would obey.

    Example:
        >>> printable("a \\x1b[31mred\\nname")
        'a ?[31mred?name'
    """
    return "".join(c if c.isprintable() else "?" for c in text)
