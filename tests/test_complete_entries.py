"""tools/complete_entries.py: what an entry lacks is measured, and what it has stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from complete_entries import complete
from evidence_runs import Forger, registered

from genrobust.evidence.bundle import EVIDENCE, RECORD, read_evidence
from genrobust.records.record import Record


def lacks(name: str) -> bool:
    return name.startswith(("damage.", "directional.", "probe.stopped", "followed"))


@pytest.fixture
def old(forger: Forger) -> Path:
    """An entry as the first ones were: without much of what is looked for today."""
    whole = forger.evidence
    kept = {name: tensor for name, tensor in whole.tensors.items() if not lacks(name)}
    said = json.loads(whole.record.model_dump_json())
    said["schema_version"] = 2
    del said["radii"], said["scores"]["damage"]
    forger._with(tensors=kept, record_bytes=json.dumps(said).encode())
    vars(forger.evidence)["outcome"] = whole.outcome
    return forger.written()


def test_an_entry_that_lacks_columns_is_what_it_would_have_been(
    forger: Forger, old: Path, tiny_entry: Path
) -> None:
    whole = read_evidence(tiny_entry / EVIDENCE)
    with registered():
        said = complete(old, None, None)
        again = complete(old, None, None)
    assert (said.partition(" columns")[0], again) == (
        str(sum(map(lacks, whole.tensors))),
        "is whole",
    )
    found = read_evidence(old / EVIDENCE)
    assert found.tensors.keys() == whole.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert torch.equal(found.tensors[name], tensor) or name.startswith("damage."), name
        torch.testing.assert_close(found.tensors[name], tensor, equal_nan=True)
    assert found.record.scores == whole.record.scores
    assert found.record.flags == whole.record.flags
    assert found.record.radii == "from the largest", "as records before said by their version"
    assert (old / RECORD).read_bytes() == found.record_bytes


def test_a_score_that_does_not_come_out_is_refused(old: Path, forger: Forger) -> None:
    said = json.loads((old / RECORD).read_bytes())
    said["scores"]["kl"]["value"] += 1
    outcome = forger.evidence.outcome
    forger._with(record_bytes=json.dumps(said).encode())
    vars(forger.evidence)["outcome"] = outcome
    forger.written()
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    with registered(), pytest.raises(Exception, match="kl is claimed"):
        complete(old, None, None)
    assert before == {path.name: path.read_bytes() for path in old.iterdir()}


def test_the_first_entries_have_what_all_have(repository: Path) -> None:
    entries = repository / "leaderboard" / "entries"
    for path in sorted(entries.glob("*-v1/*/" + EVIDENCE)):
        record: Record = read_evidence(path).record  # which refuses what is not whole
        assert record.scores.damage is not None
        assert not record.flags
