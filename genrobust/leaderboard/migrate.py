"""Records of earlier schema versions, brought to the current one when they are read.

A step is a pure function from one version's JSON to the next one's. What an earlier version did not
measure is None; what it did in another way is said, never passed off as what is done now.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from typing import Any

from genrobust.benchmark.record import SCHEMA_VERSION, Record

Json = dict[str, Any]

#: Said of runs before version 2: their scores are of another procedure than the suite's of today.
UPWARDS = "measured from the smallest radius up, as suites were before ensembles"


def read_record(content: str | bytes) -> Record:
    """The record in a JSON file of this or any earlier schema version.

    Raises:
        pydantic.ValidationError: it is none, or of a later version.
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


def _from_1_to_2(old: Json) -> Json:
    """Suites say their rule and whether they are an ensemble; scores say what the code did.

    Before, every suite had judges that must agree, went from the smallest radius up, and scored
    models whose deployment was neither random nor a path of its own.
    """
    upwards = "ensemble" not in old["suite"]
    scores = old["scores"]
    return {
        **old,
        "schema_version": 2,
        "official": old["official"] and not upwards,
        "deviations": [*old["deviations"], *([UPWARDS] if upwards else [])],
        "model": {"draws": 1, "deploy": False, **old["model"]},
        "suite": {"ensemble": False, "rule": "agreement", **old["suite"]},
        "scores": {
            "kl": None,
            "total_correlation": None,
            **scores,
            "per_eps": [_changes_from_1_to_2(at) for at in scores["per_eps"]],
        },
    }


def _changes_from_1_to_2(at: Json) -> Json:
    """The shift was a mean over all eligible sources, and is one over successes."""
    names = ("source_similarity", "reconstruction_similarity", "latent_displacement")
    unknown = dict.fromkeys((*names, "symmetric_kl"))
    if "symmetric_kl" not in at:
        unknown["reconstruction_shift"] = None
        at = {name: value for name, value in at.items() if name != "reconstruction_shift"}
    return {**unknown, **at}


#: From each earlier version to the next.
STEPS: dict[int, Callable[[Json], Json]] = {1: _from_1_to_2}
