"""What the shards of a suite whose dear attacks descend may have counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from brief_signs import brief_signs
from torch import Tensor

import genrobust
from genrobust.evidence.bundle import Evidence, gather, read_evidence
from genrobust.evidence.checks import RejectionError
from genrobust.runner import collect
from genrobust.suites import AttackEntry, load_suite
from genrobust.verify.consistency import check_counts

ENTRY = Path(__file__).parent.parent / "leaderboard" / "entries" / "digits-v2" / "zoo-vae"


@pytest.fixture(scope="module")
def honest() -> Evidence:
    return read_evidence(ENTRY / "evidence.zip")


def edited(evidence: Evidence, edit: Callable[[dict[str, Tensor]], None]) -> Evidence:
    """With other tensors, and a record whose sums are theirs."""
    tensors = {name: tensor.clone() for name, tensor in evidence.tensors.items()}
    edit(tensors)
    found = replace(evidence, tensors=tensors)
    counts = found.outcome.counts
    record = found.record.model_copy(
        update={
            "attacks": collect.attack_costs(found.record.suite, counts),
            "forwards": int(counts.forwards.sum()),
            "backwards": int(counts.backwards.sum()),
        }
    )
    return replace(found, record=record)


def standing(t: dict[str, Tensor]) -> Tensor:
    return (t["eligible"] & (t["ignore.radius"] > 0)).nonzero()[:, 0]


def one_is_left_out(t: dict[str, Tensor]) -> None:
    t["longer.tried"][standing(t)[0]] = False


def one_more_fell(t: dict[str, Tensor]) -> None:
    tried = t["longer.tried"] & ~t["longer.success"]
    t["longer.success"][tried.nonzero()[:, 0]] = True


def fewer_were_tried(t: dict[str, Tensor]) -> None:
    stands = torch.tensor([len(standing(t))])
    t["tried"][:, -1] = 0
    t["succeeded"][:, -1] = 0
    t["forwards"][:, -1] = t["backwards"][:, -1] = 0
    t["tried"][0, -1, 0] = stands - 1


def test_an_honest_run_adds_up(honest: Evidence) -> None:
    assert any(entry.descends for entry in honest.record.suite.attacks)
    longer = honest.outcome.counts.tried[-1]
    stand = sum(int((honest.tensors["ignore.radius"] > e).sum()) for e in range(len(longer)))
    assert 0 < int(longer.sum()) < stand, "each source where it stands last, and not at each radius"
    check_counts(edited(honest, lambda t: None))


@pytest.mark.slow
def test_untargeted_attacks_that_descend_add_up_as_others_do(tmp_path: Path) -> None:
    """What stood at a large radius they do not try at a smaller one."""
    attacks = [
        AttackEntry(attack=name, goal="untargeted", settings=settings, descends=True)
        for name, settings in (("classifier", {"steps": 4}), ("square", {"queries": 5}))
    ]
    update = {"attacks": tuple(attacks), "eps": (0.02, 0.05), "resamples": 50}
    suite = load_suite("digits").model_copy(update=update)
    with brief_signs():
        record = genrobust.bench("vae", suite, limit=12, out=tmp_path)
    assert record.attacks[0].tried[0] < record.scores.eligible
    check_counts(gather(tmp_path, genrobust.load_model("vae")))


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (one_is_left_out, "not tried on the sources that stand"),
        (one_more_fell, "counts of the longer attack"),
        (fewer_were_tried, "counts of the longer attack"),
    ],
)
def test_counts_that_hide_what_stood_are_refused(
    honest: Evidence, edit: Callable[[dict[str, Tensor]], None], why: str
) -> None:
    with pytest.raises(RejectionError, match=why):
        check_counts(edited(honest, edit))
