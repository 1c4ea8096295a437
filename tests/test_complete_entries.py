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

LACKED = ("damage.", "directional.", "probe.stopped", "followed")


def old(forger: Forger, kl: float = 0.0) -> Path:
    """An entry as the first ones were, without much of what is looked for today; KL is off by so
    much."""
    said = json.loads(forger.evidence.record.model_dump_json())
    said["schema_version"] = 2
    del said["radii"], said["scores"]["damage"]
    said["scores"]["kl"]["value"] += kl
    forger.without(*LACKED)
    whole = forger.evidence.outcome
    forger._with(record_bytes=json.dumps(said).encode())
    vars(forger.evidence)["outcome"] = whole
    return forger.written()


@pytest.mark.slow
def test_an_entry_that_lacks_columns_is_what_it_would_have_been(
    forger: Forger, tiny_entry: Path
) -> None:
    folder = old(forger)
    whole = read_evidence(tiny_entry / EVIDENCE)
    with registered():
        said = complete(folder, None, None)
        again = complete(folder, None, None)
    count = sum(name.startswith(LACKED) for name in whole.tensors)
    assert (said, again) == (f"{count} columns measured; flags: none", "is whole")
    found = read_evidence(folder / EVIDENCE)
    assert found.tensors.keys() == whole.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert torch.equal(found.tensors[name], tensor) or name.startswith("damage."), name
        torch.testing.assert_close(found.tensors[name], tensor, equal_nan=True)
    assert found.record.scores == whole.record.scores
    assert found.record.flags == whole.record.flags
    assert found.record.radii == "from the largest", "as records before said by their version"
    assert (folder / RECORD).read_bytes() == found.record_bytes


@pytest.mark.slow
def test_a_score_that_does_not_come_out_is_refused(forger: Forger) -> None:
    folder = old(forger, kl=1.0)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with registered(), pytest.raises(Exception, match="kl is claimed"):
        complete(folder, None, None)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_first_entries_have_what_all_have(repository: Path) -> None:
    entries = repository / "leaderboard" / "entries"
    for path in sorted(entries.glob("*-v1/*/" + EVIDENCE)):
        record: Record = read_evidence(path).record  # which refuses what is not whole
        assert record.scores.damage is not None
        assert not record.flags
