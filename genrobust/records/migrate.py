"""Records of earlier schema versions, brought to the current one when they are read.

A step is a pure function from one version's JSON to the next one's. What an earlier version did in
another way is said, never passed off as what is done now.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from genrobust import arguments, files
from genrobust.errors import GenrobustError, in_a_line
from genrobust.records.at_hand import AtHand, Kept
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.record import SCHEMA_VERSION, Record

Json = dict[str, Any]


def read_record(content: str | bytes) -> Record:
    """The record in a JSON file of this or an earlier schema version.

    Raises:
        pydantic.ValidationError: it is none, or of another version.
    """
    if isinstance(content, bytes):
        content = content.removeprefix(codecs.BOM_UTF8)
    try:
        found = json.loads(content)
        if found["schema_version"] != SCHEMA_VERSION:
            return Record.model_validate_json(json.dumps(migrated(found)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass  # below it is said what is wrong with it
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


def migrated(record: Json) -> Json:
    """A record's JSON in the current schema version; the one given stays as it is."""
    while record["schema_version"] != SCHEMA_VERSION:
        record = STEPS[record["schema_version"]](record)
    return record


def _from_2_to_3(old: Json) -> Json:
    """Ensembles went from the largest radius down, and left alone inside it what stood at it."""
    radii = "from the largest" if old["suite"]["ensemble"] else "each"
    return {**old, "schema_version": 3, "radii": radii}


#: From each earlier version to the next. Version 1 was never published, and is not read.
STEPS: dict[int, Callable[[Json], Json]] = {2: _from_2_to_3}
