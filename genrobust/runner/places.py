"""Where a run lives: a folder of its own, which the same command finds again.

``OUT/SUITE-vN/NAME`` for the suite as it is, with seed 0; else with the settings behind the name,
as in ``NAME--limit-6--eps-0.06``. Where that folder holds another run, of a model whose code has
changed or of another one of that name, a hash is put behind it: no run is written over.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from genrobust import files
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.published import HUB, is_published, lies_in
from genrobust.names import part_of, short_hash
from genrobust.records.again import PLAN
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.examples import EXAMPLES
from genrobust.records.outcomes import OUTCOMES
from genrobust.records.record import Record
from genrobust.runner.plan import ShardSpec
from genrobust.runner.prepare import Prepared
from genrobust.runner.purpose import AnyRecord
from genrobust.suites.suite import Suite

#: What is made from a record and its shards.
DERIVED = ("report.html", "evidence.zip", "curve.html", OUTCOMES, EXAMPLES)

#: What shows that a folder holds a run, finished or not.
_TRACES = (PLAN, "record.json", "curve.json", "evidence.zip", "shards")

#: A file of shards: one that is done or begun, or an archive of many.
_SHARDS = re.compile(r"([0-9a-f]{8}|[0-9a-f]{32})\.[a-z]+")

#: How long the settings may be in a folder's name.
_LONGEST = 100

#: What is before each setting there.
_BEHIND = "--"


def home_of(out: Path, suite: Suite) -> Path:
    """The folder of a suite's runs; absolute, since a model's file may change directory."""
    return out.absolute() / part_of(f"{suite.name}-v{suite.version}")


def name_of(model: str, weights: str | Path | None = None) -> str:
    """What a run is called by the place its model comes from.

    >>> name_of("my_model.py:build"), name_of("my_model.py:VAE"), name_of("vae", "runs/best.pt")
    ('my_model', 'my_model-VAE', 'vae+best')
    >>> name_of("hf://owner/name@31f26fd")
    'owner/name@31f26fd'
    """
    place, colon, function = model.rpartition(":")
    name = model.removeprefix(HUB)
    if is_published(model) and name == model:
        name = lies_in(model).name
    elif colon and name == model:
        stem = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
        name = stem if function == "build" else f"{stem}-{function}"
    return name if weights is None else f"{name}+{Path(weights).stem}"


def mark_of(prepared: Prepared[Any], shards: Sequence[ShardSpec]) -> str:
    """What a run is, as a hash: its model and all that its results depend on."""
    keys = [prepared.identity, *(spec.key for spec in shards)]
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()


def folder_of(
    home: Path,
    prepared: Prepared[Any],
    shards: Sequence[ShardSpec],
    below: str = "",
    take: bool = True,
) -> Path:
    """The run's folder in a suite's home, taken so that no other run gets it.

    Args:
        home: of the suite.
        prepared: the run.
        shards: of which it consists.
        below: a folder in the run's, where it is one of several of a kind.
        take: whether to make it, if it is not there.

    Raises:
        GenrobustError: it cannot be written.
    """
    mark = mark_of(prepared, shards)
    name = _name(prepared, without=f"norm-{below}")
    names = (name, f"{name}-{mark[:8]}", f"{name}-{mark[:32]}")
    folders = [home / candidate / below for candidate in names]
    for folder in folders:
        if (_plan_in(folder) or {}).get("run") == mark:
            return folder
    if not take:
        return folders[0]
    for folder in folders:
        # Of the parts of a run that begin at once, one takes the folder for all.
        if _take(folder, mark) or (_plan_in(folder) or {}).get("run") == mark:
            return folder
    raise GenrobustError(
        f"the folders '{home / name}-...' that this run may use hold other files; choose another "
        "folder with --out"
    )


def require_run(folder: Path, prepared: Prepared[Any], shards: Sequence[ShardSpec]) -> Path:
    """The folder, which is to hold this run already.

    Raises:
        GenrobustError: it holds another one.
    """
    if (_plan_in(folder) or {}).get("run") != mark_of(prepared, shards):
        raise GenrobustError(
            f"'{folder}' holds the shards of another model than its command gives now, or of this "
            "one with other code or files; put these back as they were, or measure it anew: "
            f"{prepared.command}"
        )
    return folder


def begin(
    folder: Path, prepared: Prepared[Any], shards: Sequence[ShardSpec], command: str | None = None
) -> None:
    """Write the plan of a run; results of another model that were there go with their shards.

    Those of the same model stay: no run takes the shards of another, and each settles its record.
    ``command`` is what repeats it on this machine, where that is more than the record says;
    without one the plan of the same run stays.
    """
    outline = {
        "command": command or prepared.command,
        "folder": str(folder.absolute()),
        "run": mark_of(prepared, shards),
        "identity": prepared.identity,
        "model": prepared.own,
        "purpose": prepared.purpose.command,
        "suite": prepared.suite.model_dump(mode="json"),
        "shards": [spec.model_dump(mode="json") for spec in shards],
    }
    found = _plan_in(folder) or {}
    if command is None and found == outline | {k: found.get(k) for k in ("command", "folder")}:
        return
    if found.get("model", prepared.own) != prepared.own:
        warnings.warn(
            f"'{folder}' holds results of another model, or of this one with other code; they are "
            "replaced",
            GenrobustWarning,
            stacklevel=2,
        )
        for name in ("record.json", "curve.json", *DERIVED):
            (folder / name).unlink(missing_ok=True)
        for path in (folder / "shards").glob("*"):
            if _SHARDS.fullmatch(path.name):
                path.unlink(missing_ok=True)
    files.write_text(folder / PLAN, json.dumps(outline, indent=1) + "\n")


def settle(path: Path, record: AnyRecord) -> AnyRecord:
    """Write a record, unless the same is there: then that one, with the time it was made.

    What was made from another record is removed with it.
    """
    try:
        found = type(record).model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        found = None
    if found is not None and _measured(found) == _measured(record):
        return found
    for name in DERIVED:
        (path.parent / name).unlink(missing_ok=True)
    files.write_text(path, record.model_dump_json(indent=1) + "\n")
    return record


def _measured(record: Record | MinimumNormRecord) -> Record | MinimumNormRecord:
    """The record without what says when it was made, and through which path."""
    return record.model_copy(
        update={
            "model": record.model.model_copy(update={"reference": ""}),
            "provenance": record.provenance.model_copy(update={"command": ""}),
            "times": record.times.model_copy(update={"created": ""}),
        }
    )


def _name(prepared: Prepared[Any], without: str) -> str:
    reference = prepared.model.reference
    live = reference == "a live object" or reference.endswith(".zip")
    named = live or prepared.options.name is not None
    name = prepared.model.name if named else name_of(reference, prepared.options.weights)
    settings = "".join(
        _BEHIND + part_of(setting) for setting in prepared.settings if setting != without
    )
    if len(settings) > _LONGEST:
        settings = _BEHIND + f"settings-{short_hash(settings)}"
    return part_of(name) + settings


def _take(folder: Path, mark: str) -> bool:
    """Whether the folder was nobody's, and is now this run's."""
    if any((folder / name).exists() for name in _TRACES):
        return False
    with files.writing(f"'{folder}'"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / PLAN).open("x") as file:
                file.write(json.dumps({"run": mark}) + "\n")
        except FileExistsError:  # another command came first, or it is a file
            return False
    return True


def _plan_in(folder: Path) -> dict[str, Any] | None:
    """The plan of the run in a folder; empty if it is damaged, None if there is none."""
    try:
        found = json.loads((folder / PLAN).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
