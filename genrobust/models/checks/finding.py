"""What speaks against how a model is read, and what to type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """``differs`` is False of what is to be known though nothing shows that something does."""

    what: str
    mend: str
    differs: bool = True
