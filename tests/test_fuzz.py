"""Ten thousand damaged submissions: each is read, or refused in a sentence, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from evidence_runs import registered, sha256
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from genrobust.errors import GenrobustError
from genrobust.evidence.archive import read_archive, write_archive
from genrobust.evidence.bundle import EVIDENCE, LIMITS, MANIFEST, Manifest, unpack
from genrobust.evidence.checks import run_checks
from genrobust.evidence.entry import Entry, Outcomes, Verification
from genrobust.records.load import read_record
from genrobust.verify.consistency import checks
from genrobust.verify.subject import Subject

pytestmark = pytest.mark.slow

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([-1, 2**31, 2**63, 1e308, float("nan"), "", "\x00", "../x", "NaN", "1e999"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def fuzz(cases: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )


def places(value: Any) -> list[tuple[Any, Any]]:
    """All containers in a document with each of their keys."""
    found = []
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            found += places(value[key])
    return found


def edited(content: bytes, data: st.DataObject) -> bytes:
    """A JSON document in which something is another value, not there, or there under a new name."""
    document = json.loads(content)
    found = places(document)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = found[data.draw(st.integers(0, len(found) - 1))]
        how = data.draw(st.sampled_from(["value", "value", "gone", "more"]))
        try:
            if how == "value":
                holder[key] = data.draw(VALUES)
            elif how == "gone":
                del holder[key]
            elif isinstance(holder, dict):
                holder[data.draw(st.text(max_size=6))] = data.draw(VALUES)
            else:
                holder.append(data.draw(VALUES))
        except (KeyError, IndexError):  # gone already
            continue
    return json.dumps(document).encode("utf-8", "surrogatepass")


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """Bytes changed, cut out, put in, or cut off."""
    found = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(found) - 1)))
        some = data.draw(st.binary(max_size=8))
        how = data.draw(st.sampled_from(["change", "cut", "put", "end"]))
        if how == "change":
            found[at : at + len(some)] = some
        elif how == "cut":
            del found[at : at + data.draw(st.integers(1, 64))]
        elif how == "put":
            found[at:at] = some
        else:
            del found[at:]
    return bytes(found)


@pytest.fixture(scope="module")
def members(tiny_entry: Path) -> dict[str, bytes]:
    return read_archive(tiny_entry / EVIDENCE, LIMITS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / EVIDENCE


@fuzz(4000)
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(
    tiny_entry: Path, place: Path, data: st.DataObject
) -> None:
    place.write_bytes(damaged((tiny_entry / EVIDENCE).read_bytes(), data))
    with registered(), suppress(GenrobustError):
        unpack(read_archive(place, LIMITS))


@fuzz(2000)
@given(st.data())
def test_damaged_members_are_read_or_refused(
    members: dict[str, bytes], data: st.DataObject
) -> None:
    """With every hash as it must be; what is read is verified as far as it agrees with itself."""
    name = data.draw(st.sampled_from(sorted(members)))
    change = edited if name.endswith(".json") and data.draw(st.booleans()) else damaged
    given = {**members, name: change(members[name], data)}
    with registered(), suppress(GenrobustError):
        if name != MANIFEST:
            manifest = Manifest.model_validate_json(given[MANIFEST])
            files = {n: sha256(content) for n, content in given.items() if n != MANIFEST}
            given[MANIFEST] = (
                manifest.model_copy(update={"files": files}).model_dump_json().encode()
            )
        evidence = unpack(given)
        for group in checks(Subject(Path(EVIDENCE), evidence)):
            if not all(check.passed for check in run_checks(group)):
                break


@fuzz(1000)
@given(st.dictionaries(st.text(max_size=12), st.binary(max_size=64), max_size=4))
def test_any_members_are_refused(place: Path, given: dict[str, bytes]) -> None:
    with suppress(GenrobustError):
        write_archive(place, given, LIMITS)
        unpack(read_archive(place, LIMITS))
        pytest.fail("these are no evidence")


@fuzz(3000)
@given(st.data())
def test_a_changed_document_is_one_or_none(tiny_entry: Path, data: st.DataObject) -> None:
    kinds: dict[str, Callable[[bytes], BaseModel]] = {
        "entry.json": Entry.model_validate_json,
        "outcomes.json": Outcomes.model_validate_json,
        "record.json": read_record,
        "verification.json": Verification.model_validate_json,
    }
    name = data.draw(st.sampled_from(sorted(kinds)))
    content = (tiny_entry / name).read_bytes()
    changed = edited(content, data) if data.draw(st.booleans()) else damaged(content, data)
    with suppress(ValidationError):
        assert kinds[name](changed).model_dump_json()
