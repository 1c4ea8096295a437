"""The evasion attacks of foolbox and of ART, by names such as ``foolbox:LinfPGD``.

Neither library is imported before one of its attacks is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from genrobust.attacks.bridges.base import Bridge, call_seed
from genrobust.errors import unknown_name

LIBRARIES = ("art", "foolbox")

__all__ = ["LIBRARIES", "Bridge", "call_seed", "names"]


def names(library: str | None = None) -> list[str]:
    """The attacks that run through a bridge, as ``genrobust.attack`` takes them.

    Args:
        library: ``"foolbox"`` or ``"art"``; default both. It is imported for it.

    Raises:
        GenrobustError: no such library.

    Example:
        >>> "foolbox:LinfPGD" in names("foolbox")
        True
    """
    if library not in (None, *LIBRARIES):
        raise unknown_name("library", library, LIBRARIES)
    wanted = LIBRARIES if library is None else (library,)
    return [f"{one}:{name}" for one in wanted for name in _bridge_module(one).names()]


def _bridge_module(library: str) -> Any:
    return import_module(f"genrobust.attacks.bridges.{library}")
