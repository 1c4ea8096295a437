"""What is done once is not done again, and what is left out changes no bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from brief_signs import brief_signs
from principal import bright
from torch import Tensor, nn

import genrobust
from genrobust.attacks import Batch, make_attack
from genrobust.models.wrapping import adapt
from genrobust.objectives.classifier import margin
from genrobust.optimizers import Problem, apgd
from genrobust.runner.scorer import Scorer
from genrobust.suites import Suite
from genrobust.threat import ThreatModel


@pytest.mark.parametrize("eps", [0.0, 0.1, float("inf")])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_projector_gives_the_projection_bit_for_bit(norm: str, eps: float) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(5, 1, 8, 8, generator=draw).round(decimals=1)  # with pixels at 0 and 1
    threat = ThreatModel(norm, eps)
    into = threat.projector(x)
    for scale in (0.01, 0.1, 3.0):
        moved = x + scale * torch.randn(x.shape, generator=draw)
        before = moved.clone()
        assert torch.equal(into(moved), threat.project(moved, x))
        assert torch.equal(moved, before)


def test_what_would_leave_the_box_needs_no_look_where_the_ball_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the published steps for any norm say, which leave such pixels out of the direction."""
    model = genrobust.load_model("vae")
    x = genrobust.load_images("digits").take(range(6))
    batch = Batch(x, tuple(range(6)), target_x=x.flip(0))
    threat = ThreatModel("linf", 0.2)
    found = make_attack("latent", {"steps": 12})(model, batch, threat)
    monkeypatch.setattr("genrobust.norms.Linf.is_box", False)
    assert torch.equal(
        make_attack("latent", {"steps": 12})(model, batch, threat).x_adv, found.x_adv
    )


def counting(model: genrobust.GenerativeModel) -> tuple[genrobust.GenerativeModel, list[int]]:
    sizes: list[int] = []
    encoder = model.encoder

    def encode(x: Tensor) -> Any:
        sizes.append(len(x))
        return encoder(x)

    return replace(model, encoder=encode), sizes


def test_references_are_encoded_once_for_all_attacks_on_a_batch() -> None:
    model, sizes = counting(bright())
    images = genrobust.load_images("digits", "train")
    x, known = genrobust.load_images("digits"), range(260)
    batch = Batch(
        x.take(range(2)), (0, 1), labels=x.labels_of(range(2)),
        judge=genrobust.load_judge("digits", "lenet"),
        references=(images.take(known), images.labels_of(known)), codes={},
    )  # fmt: skip
    threat = ThreatModel("linf", 0.05)
    for name in ("nearest", "neighbours", "nearest"):
        shared = make_attack(name, {"steps": 1})(model, batch, threat)
        alone = make_attack(name, {"steps": 1})(model, replace(batch, codes=None), threat)
        assert torch.equal(shared.x_adv, alone.x_adv)
    assert sizes.count(250) == 1 + 3  # of all that share, and of each alone
    random = replace(model, draws=2)  # its codes are others each time
    make_attack("nearest", {"steps": 1})(random, batch, threat)
    make_attack("nearest", {"steps": 1})(random, batch, threat)
    assert sizes.count(250) == 4 + 2


def test_only_images_that_reach_a_goal_are_asked_whether_they_keep_their_class(
    small_suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    keeps = Scorer.keeps_label

    def counted(self: Scorer, x_adv: Tensor, sources: Any) -> Tensor:
        asked.append(len(x_adv))
        return keeps(self, x_adv, sources)

    monkeypatch.setattr(Scorer, "keeps_label", counted)
    suite = small_suite.limited(3).with_attacks(["noise"]).model_copy(update={"eps": (0.001,)})
    with brief_signs():
        record = genrobust.bench("vae", suite, executor="serial")
    assert record.scores.per_eps[0].robust_accuracy.value > 0
    assert asked == [2, 2, 1, 1]  # for each shard's outcome by goal, and none in the search


class InPlace(nn.Module):
    """Works on its input, and gives the same memory each time."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1024) / 1024)
        self.out = torch.zeros(1)

    def encode(self, x: Tensor) -> Tensor:
        return x.mul_(2).flatten(1) @ self.weight.T

    def decode(self, z: Tensor) -> Tensor:
        found = (z @ self.weight).sigmoid().view(-1, 1, 32, 32)
        if torch.is_grad_enabled():
            return found
        self.out = self.out if self.out.shape == found.shape else torch.zeros_like(found)
        return self.out.copy_(found)


def test_a_model_that_works_in_place_touches_nothing_of_ours() -> None:
    model = adapt(InPlace())
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    first = model.reconstruct(x)
    kept = first.clone()
    model.reconstruct(1 - x)
    assert torch.equal(x, before)
    assert torch.equal(first, kept)
    batch = Batch(x, (0, 1), target_x=x.flip(0))
    found = make_attack("output", {"steps": 3})(model, batch, ThreatModel("linf", 0.1))
    assert torch.equal(x, before)
    assert found.x_adv.isfinite().all()


def test_a_margin_and_its_gradient_leave_the_class_out() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0]], requires_grad=True)
    found = margin(logits, torch.tensor([0, 1]))
    assert found.tolist() == [1, 0]
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.tolist() == [[1, 0, -1], [0, 1, -1]]


def test_passes_are_counted_of_those_that_are_searched() -> None:
    from genrobust.batch import Context
    from genrobust.objectives.latent import LatentDistance

    x = genrobust.load_images("digits").take(range(3))
    context = Context(genrobust.load_model("vae"), Batch(x, (0, 1, 2), target_x=x.flip(0)))
    problem = Problem.of(LatentDistance(), context)
    apgd(problem, x, ThreatModel("linf", 0.1), 2)
    part = problem.narrow(torch.tensor([True, False, True]))
    part.loss(x[[0, 2]])
    assert problem.forwards.tolist() == [3, 2, 3]
    assert problem.backwards.tolist() == [2, 2, 2]
