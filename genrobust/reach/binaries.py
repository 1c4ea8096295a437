"""Extensions of one's own, libraries that ctypes opened, and files that are open to be read.

All of these count by what is in the files.
"""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import io
import tarfile
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from genrobust import files
from genrobust.reach.libraries import file_of

#: Up to how many bytes of a file are read that is open.
MOST_READ = 10**9

#: Where objects of Python's keep what they read from: archives, texts, buffers.
_READING: dict[type, str] = {
    **{zipfile.ZipFile: "fp", tarfile.TarFile: "fileobj", gzip.GzipFile: "fileobj"},
    **{io.TextIOWrapper: "buffer", io.BufferedReader: "raw"},
}


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


def opened_to_read(value: Any) -> str:
    """The hash of the file that an object of Python's reads, or an archive or a text upon it.

    numpy keeps such an archive, and reads arrays from it when they are asked for.

    >>> with open(ctypes.__file__) as text, open(ctypes.__file__, "rb") as content:
    ...     opened_to_read(text) == opened_to_read(content) != opened_to_read(io.BytesIO())
    True
    """
    try:
        while type(value) in _READING:
            value = getattr(value, _READING[type(value)])
        if type(value) is not io.FileIO or value.closed or value.mode != "rb":
            return ""
        return "" if isinstance(value.name, int) else _hash_of(value.name, MOST_READ)
    except (AttributeError, ValueError):  # it was closed, or taken apart
        return ""


def _hash_of(file: str, most: int | None = None) -> str:
    try:
        return hashlib.sha256(files.read_bytes(Path(file), most)).hexdigest()
    except OSError:  # it is elsewhere, gone, or too large
        return ""
