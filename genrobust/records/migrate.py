"""Records of earlier schema versions, brought to the current one when they are read.

A step is a pure function from one version's JSON to the next one's. What an earlier version did in
another way is said, never passed off as what is done now.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from typing import Any

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
