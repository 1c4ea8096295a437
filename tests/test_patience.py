"""Giving up early: whom, and that who else is in the batch has no say in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from principal import principal
from torch import Tensor

import genrobust
from genrobust.attacks import make_attack
from genrobust.attacks.search import BestOf
from genrobust.batch import Batch, Context
from genrobust.optimizers import Problem, apgd
from genrobust.threat import ThreatModel

STEPS = 50


def context(count: int) -> Context:
    images = genrobust.load_images("digits")
    batch = Batch(
        images.take(range(count)),
        tuple(range(count)),
        labels=images.labels_of(range(count)),
        judge=genrobust.load_judge("digits", "lenet"),
    )
    return Context(principal(), batch)


def slopes(x_adv: Tensor, part: Context) -> Tensor:
    """A fall by 0.6 at once and by no more, from a height that is the sample's id."""
    height = torch.tensor([float(i) for i in part.batch.sample_ids])
    return height + 10 * (x_adv - part.batch.x).flatten(1).mean(1)


def test_who_cannot_reach_0_at_the_pace_so_far_is_given_up() -> None:
    grey = Batch(torch.full((4, 1, 32, 32), 0.5), tuple(range(4)))
    spent = []
    for patience in (1.0, None):
        problem = Problem.of(slopes, Context(principal(), grey))
        apgd(problem, grey.x, ThreatModel("linf", 0.06), STEPS, patience=patience)
        spent.append(problem.backwards.tolist())
    assert spent == [[STEPS, 21, 21, 12], [STEPS] * 4]


def test_giving_up_is_each_images_own_affair() -> None:
    threat = ThreatModel("linf", 0.06)
    attack = make_attack("classifier", {"steps": STEPS, "patience": 1.0})
    whole = context(6)
    together = attack(whole.model, whole.batch, threat)
    assert len(together.backwards.unique()) > 1
    given_up = int(together.backwards.argmin())
    alone = attack(whole.model, whole.batch[torch.tensor([given_up])], threat)
    assert torch.equal(alone.backwards[0], together.backwards[given_up])
    torch.testing.assert_close(alone.x_adv[0], together.x_adv[given_up], atol=1e-4, rtol=0)


def test_patience_costs_no_success_that_is_near() -> None:
    whole = context(10)
    found = {
        patience: make_attack("classifier", {"steps": STEPS, "patience": patience})(
            whole.model, whole.batch, ThreatModel("linf", 0.06)
        )
        for patience in (None, 1.0)
    }
    success = {p: int(f.success.sum()) for p, f in found.items() if f.success is not None}
    spent = {p: int(f.backwards.sum()) for p, f in found.items()}
    assert success[1.0] >= success[None] - 1
    assert spent[1.0] < 0.9 * spent[None]


def neighbours(count: int) -> Context:
    images = genrobust.load_images("digits", "train")
    references = images.take(range(200)), images.labels_of(range(200))
    whole = context(count)
    return Context(whole.model, replace(whole.batch, references=references))


def test_neighbours_goes_to_each_class_by_codes_and_then_by_the_judge() -> None:
    whole, threat = neighbours(6), ThreatModel("linf", 0.04)
    found = make_attack("neighbours", {"steps": 8})(whole.model, whole.batch, threat)
    standing = found.loss >= -4
    assert standing.any()
    assert (found.backwards[standing] == 9 * (6 + 8)).all()
    hopeless = make_attack("neighbours", {"steps": 8, "hope": 1e-9})
    spent = hopeless(whole.model, whole.batch, threat).backwards
    assert (spent[found.loss > 0] == 9 * 6 + 2 * 8).all()
    assert (spent[standing & (found.loss < 0)] == 9 * (6 + 8)).all()  # who fell goes on falling


def test_neighbours_gives_up_where_the_margin_falls_too_slowly_from_class_to_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, threat, losses = neighbours(8), ThreatModel("linf", 0.03), []
    search = BestOf.search

    def watched(self: BestOf, *args: Any) -> None:
        search(self, *args)
        losses.append(self.minimum.loss / self.clean)

    monkeypatch.setattr(BestOf, "search", watched)
    all_classes = make_attack("neighbours", {"steps": 8})(whole.model, whole.batch, threat)
    shares = torch.stack(losses[9:])  # after each class that the judge searched
    hope, seen = 0.9, set()
    hoping = make_attack("neighbours", {"steps": 8, "hope": hope})(whole.model, whole.batch, threat)
    for i in (all_classes.loss >= -4).nonzero()[:, 0].tolist():
        tried = 2
        while tried < 9 and shares[tried - 1, i] < hope ** (tried - 1):
            tried += 1
        seen.add(tried)
        assert int(hoping.backwards[i]) == 9 * 6 + tried * 8
    assert len(seen) > 1


def test_neighbours_gives_none_up_where_the_ball_is_not_a_box() -> None:
    whole, threat = neighbours(4), ThreatModel("l2", 0.4)
    hopeless = make_attack("neighbours", {"steps": 8, "hope": 1e-9})
    found = hopeless(whole.model, whole.batch, threat)
    standing = found.loss >= -4
    assert standing.any()
    assert (found.backwards[standing] == 9 * (6 + 8)).all()
