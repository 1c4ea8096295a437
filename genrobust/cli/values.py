"""What an option can be given: a value that cannot be used is told before anything is done."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from genrobust.cli.errors import one_line


def either(given: str | Path) -> Path:
    """The path of a file or a folder."""
    return _path(given, "a path")


def folder(given: str | Path) -> Path:
    """The path of a folder, which need not be there yet."""
    path = _path(given, "a folder")
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise typer.BadParameter(f"'{place}' is a file; give a folder.")
            break
    return path


def file(given: str | Path) -> Path:
    """The path of a file, which need not be there yet."""
    path = _path(given, "a file")
    if path.is_dir():
        raise typer.BadParameter(f"'{path}' is a folder; give a file.")
    return path


def unkept(given: object) -> str | None:
    r"""Why results cannot hold what an option was given, or where that lies; None if they can.

    They are in UTF-8, in which libraries are given paths as well. Python has a code of its own for
    each byte of a name that it cannot read.

    >>> unkept("pictures-r\udce9").partition(",")[0], unkept([Path("photos")])
    ("'pictures-r\\xe9' is not in UTF-8", None)
    """
    if isinstance(given, (list, tuple)):
        return next(filter(None, map(unkept, given)), None)
    text = str(given.absolute() if isinstance(given, Path) else given)
    if text.encode(errors="replace").decode() == text:
        return None
    name = os.fsencode(text)
    shown = one_line(name.decode(errors="backslashreplace"))
    if name.decode(errors="replace").encode() == name:
        return f"'{shown}' is read as {sys.getfilesystemencoding()} here; set PYTHONUTF8=1"
    return (
        f"'{shown}' is not in UTF-8, as results are; rename the file or folder of that name, or "
        "type the word in UTF-8"
    )


def _path(given: str | Path, what: str) -> Path:
    if not str(given):
        raise typer.BadParameter(f"it is empty; give {what}.")
    path = Path(given)
    try:
        path.exists()
    except (OSError, ValueError) as problem:  # too long a name, or a character that none has
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise typer.BadParameter(f"'{given}' cannot be a path ({reason}); give {what}.") from None
    return path


DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds the data set, such as MNIST/raw.",
        envvar="GENROBUST_DATA",
        parser=folder,
        metavar="FOLDER",
    ),
]
