"""What an option can be given: a value that cannot be used is told before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

#: Where results go.
RUNS = Path("genrobust-runs")


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
        if place.is_symlink():
            raise typer.BadParameter(
                f"'{place}' is a link to '{place.readlink()}', which is not there; make that "
                "folder, or give another."
            )
    return path


def file(given: str | Path) -> Path:
    """The path of a file, which need not be there yet."""
    path = _path(given, "a file")
    if path.is_dir():
        raise typer.BadParameter(f"'{path}' is a folder; give a file.")
    return path


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


def folder_option(help: str) -> Any:
    """An option that takes a folder."""
    return typer.Option(help=help, parser=folder, metavar="FOLDER")


def file_option(help: str) -> Any:
    """An option that takes a file."""
    return typer.Option(help=help, parser=file, metavar="FILE")
