"""The evasion attacks of foolbox and of ART, by names such as ``foolbox:LinfPGD``.

Neither library is imported before one of its attacks is asked for.
"""

from __future__ import annotations

from genrobust.attacks.bridges.base import Bridge, call_seed

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
    from genrobust.attacks.bridges import art, foolbox
    from genrobust.errors import unknown_name

    known = {"art": art.names, "foolbox": foolbox.names}
    if library is not None and library not in known:
        raise unknown_name("library", library, known)
    wanted = LIBRARIES if library is None else (library,)
    return [f"{one}:{name}" for one in wanted for name in known[one]()]
