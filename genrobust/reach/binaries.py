"""Extensions of one's own, and libraries that ctypes opened: they count by their files."""

from __future__ import annotations

import ctypes
import hashlib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from genrobust import files
from genrobust.reach.libraries import file_of


def extension_of(module: object) -> str:
    """The hash of a module's file, if it is no source.

    >>> extension_of(ctypes)
    ''
    """
    file = file_of(module) or ""
    return _hash_of(file) if file.endswith(tuple(EXTENSION_SUFFIXES)) else ""


def opened_by(library: ctypes.CDLL) -> str:
    """The hash of a library's file, if it has a path: the system's are opened by their names."""
    return _hash_of(library._name or "")


def _hash_of(file: str) -> str:
    try:
        return hashlib.sha256(files.read_bytes(Path(file))).hexdigest()
    except OSError:  # it is elsewhere, or gone
        return ""
