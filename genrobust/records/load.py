"""Records read from their files, whoever wrote these."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from genrobust import arguments, files
from genrobust.errors import GenrobustError, in_a_line
from genrobust.records.at_hand import AtHand, Kept
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.record import Record


def read_record(content: str | bytes) -> Record:
    """The record in a JSON file.

    Raises:
        pydantic.ValidationError: it is none, or of another version.
    """
    if isinstance(content, bytes):
        content = content.removeprefix(codecs.BOM_UTF8)
    return Record.model_validate_json(content)


def load_record(path: str | Path) -> Record:
    """The record in a file, or in the folder of a run.

    Raises:
        GenrobustError: that is no path; there is none, or it is not one that this version reads.
    """
    return _load(path, "record.json", "bench", read_record)


def load_curve(path: str | Path) -> MinimumNormRecord:
    """:func:`load_record` for the record of a curve."""
    return _load(path, "curve.json", "curve", MinimumNormRecord.model_validate_json)


def _load(given: str | Path, name: str, command: str, read: Callable[[str], Kept]) -> Kept:
    path = Path(arguments.path("path", given, "genrobust-runs/digits-v2/vae"))
    place = path / name if path.is_dir() else path
    try:
        return read(files.read_text(place)).beside(AtHand(folder=place.parent))
    except OSError as problem:
        raise GenrobustError(
            f"there is no record in '{place}' ({problem.strerror}); name the folder that "
            f"'genrobust {command}' printed, or its {name}"
        ) from problem
    except ValidationError as problem:
        raise GenrobustError(
            f"'{place}' is no record of this version ({in_a_line(problem)}); measure the model "
            f"again with 'genrobust {command}'"
        ) from problem
