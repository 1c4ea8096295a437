"""What makes attacks stronger: the whole L2 ball, many judges in one, the codes of a class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust.attacks import make_attack
from genrobust.attacks.neighbours import _Classes
from genrobust.attacks.square import Square
from genrobust.batch import Batch, Context
from genrobust.judges import Judge, load_judge
from genrobust.norms import load_norm
from genrobust.objectives.neighbours import NeighbourMargin
from genrobust.seeding import generator
from genrobust.suites import load_suite
from genrobust.threat import ThreatModel


def images(count: int) -> tuple[Tensor, Tensor]:
    found = genrobust.load_images("digits")
    return found.take(range(count)), found.labels_of(range(count))


def far(x: Tensor, key: str) -> Tensor:
    return x + torch.randn(x.shape, generator=generator(key)) * 0.3


@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0, 100.0])
def test_an_l2_projection_is_the_nearest_point_of_ball_and_box(radius: float) -> None:
    x, _ = images(6)
    moved = far(x, "projection").double()
    found = load_norm("l2").project(moved, x.double(), radius)
    low, high = torch.zeros(6, 1, 1, 1), torch.ones(6, 1, 1, 1)
    for _ in range(60):  # the share of the change, by bisection
        share = (low + high) / 2
        inside = (x + (moved - x) * share).clamp(0, 1).sub(x).flatten(1).norm(dim=1) <= radius
        low = torch.where(inside.view(-1, 1, 1, 1), share, low)
        high = torch.where(inside.view(-1, 1, 1, 1), high, share)
    torch.testing.assert_close(found, (x + (moved - x) * low).clamp(0, 1), atol=1e-5, rtol=0)


def test_an_l2_attack_spends_no_length_on_what_the_box_cuts_off() -> None:
    x = torch.zeros(1, 1, 8, 8)
    x[..., 4:] = 1
    gradient = torch.randn(x.shape, generator=generator("stuck"))
    threat = ThreatModel("l2", 0.5)
    moved = threat.project(x - threat.norm.steepest(gradient, x), x)
    assert float(threat.distance(moved, x)) == pytest.approx(0.5, abs=1e-5)


def test_a_committee_is_the_mean_of_its_members() -> None:
    judge = load_judge("digits", "committee")
    x, labels = images(200)
    members = [member(x) for member in judge.module.members]
    torch.testing.assert_close(judge.logits(x), torch.stack(members).mean(0))
    shares = [float((m.argmax(1) == labels).float().mean()) for m in members]
    assert min(shares) > 0.95


def test_the_committee_attacks_in_version_2_and_scores_nowhere() -> None:
    suite = load_suite("digits-v2")
    assert suite.attacker_judge is not None
    assert suite.attacker_judge.architecture == "committee"
    assert not suite.shared_judges


class Plane(nn.Module):
    """An autoencoder of two pixels that gives what it is given."""

    input_shape = (1, 1, 2)

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.view(-1, 1, 1, 2)


class Steps(nn.Module):
    """Two classes apart at x = 0.5, level but for 0.02 around it; and one that is never seen."""

    def forward(self, x: Tensor) -> Tensor:
        side = ((x[:, 0, 0, 0] - 0.5) / 0.02).clamp(-1, 1) * 5
        return torch.stack([-side, side, -9 + 0 * side], 1)


def test_neighbours_have_a_direction_where_the_judge_has_none() -> None:
    model = genrobust.wrap(Plane())
    judge = Judge("steps", Steps().eval(), "0")
    points = torch.tensor([[0.2, 0.5], [0.25, 0.4], [0.8, 0.5], [0.85, 0.6]]).view(-1, 1, 1, 2)
    references = (points, torch.tensor([0, 0, 1, 1]))
    x, label = torch.tensor([[[[0.3, 0.5]]]]), torch.tensor([0])
    batch = Batch(x, (0,), labels=label, judge=judge, references=references)
    threat = ThreatModel("linf", 0.25)
    found = {
        name: make_attack(name, {"steps": 20})(model, batch, threat).success
        for name in ("classifier", "neighbours")
    }
    assert not found["classifier"]
    assert found["neighbours"]
    aimed = Batch(x, (0,), target_labels=1 - label, judge=judge, references=references)
    assert make_attack("neighbours", {"steps": 20})(model, aimed, threat).success
    # No reference shows the class: there is nothing to go to, and the source stays.
    away = Batch(x, (0,), target_labels=label + 2, judge=judge, references=references)
    assert torch.equal(make_attack("neighbours", {"steps": 20})(model, away, threat).x_adv, x)


def four_pixels() -> genrobust.GenerativeModel:
    """A model whose code is its image and its reconstruction."""
    return genrobust.wrap(
        nn.Identity(),
        encode=lambda x: x.flatten(1),
        decode=lambda code: code.view(-1, 1, 1, 4),
        input_shape=(1, 1, 4),
    )


@pytest.mark.parametrize(
    ("name", "how"),
    [("multi-target", {}), ("nearest", {}), ("nearest", {"search_by": "falling"})],
)
def test_of_several_classes_the_nearest_is_tried_first(name: str, how: dict[str, str]) -> None:
    """A judge that sees the brightest pixel: to its next one the ball reaches, and to no other."""
    judge = Judge("brightest", nn.Flatten(), "0")
    x, labels = torch.tensor([[[[0.6, 0.4, 0.3, 0.1]]]]), torch.tensor([0])
    points = [[0.1, 0.1, 0.1, 0.9], [0.1, 0.2, 0.9, 0.1], [0.45, 0.55, 0.3, 0.1], [0.6, 0, 0, 0]]
    references = (torch.tensor(points).view(-1, 1, 1, 4), torch.tensor([3, 2, 1, 0]))
    settings = {"steps": 30, "classes": 1, "confidence": 0.0, **how}
    for eps, falls in ((0.11, True), (0.09, False)):
        batch = Batch(x, (0,), labels=labels, judge=judge, references=references)
        found = make_attack(name, settings)(four_pixels(), batch, ThreatModel("linf", eps))
        assert bool(found.success) == falls


def test_nearest_searches_as_it_is_told() -> None:
    (x, labels), train = images(4), genrobust.load_images("digits", "train")
    references, judge = (train.take(range(100)), train.labels[:100]), load_judge("digits", "lenet")
    batch = Batch(x, tuple(range(4)), labels=labels, judge=judge, references=references)
    model, threat = genrobust.load_model("vae"), ThreatModel("linf", 0.02)
    settings = {"objective": "output", "classes": 1, "steps": 12}
    found = {
        how: make_attack("nearest", {**settings, "search_by": how})(model, batch, threat)
        for how in ("adaptive", "falling")
    }
    assert (found["falling"].backwards == 12).all()
    assert not torch.equal(found["adaptive"].x_adv, found["falling"].x_adv)


def test_neighbours_take_other_classes_by_their_nearest_code() -> None:
    points = [[0.9, 0.1], [0.5, 0.5], [0.1, 0.2], [0.1, 0.9], [0.15, 0.1]]
    places = torch.tensor([[*point, 0.0, 0.0] for point in points]).view(-1, 1, 1, 4)
    x = torch.tensor([[0.1, 0.1, 0, 0], [0.9, 0.9, 0, 0]]).view(2, 1, 1, 4)
    references = (places, torch.tensor([4, 2, 0, 7, 0]))
    batch = Batch(x, (0, 1), labels=torch.tensor([0, 4]), references=references)
    found = _Classes.around(Context(four_pixels(), batch), 9)
    # Of two at one distance any may be first.
    assert found.aimed[:, 0].tolist() == [2, 2]
    assert [sorted(row) for row in found.aimed[:, 1:].tolist()] == [[4, 7], [0, 7]]
    assert found.aimed[1].tolist() == [2, 7, 0]
    apart = torch.tensor([[0.32, 0.64, 0.64], [0.32, 0.64, 1.13]]).sqrt()
    torch.testing.assert_close(found.width, apart)
    two = _Classes.around(Context(four_pixels(), batch), 2)
    assert torch.equal(two.aimed, found.aimed[:, :2])


def test_squares_shrink_as_the_paper_has_them_shrink() -> None:
    """Andriushchenko et al. 2020: of 10,000 queries, half the area from 10, 50, 200, ... on."""
    square = Square(queries=10_000, first_share=0.8)
    areas = {0: 0.8, 9: 0.8, 10: 0.4, 49: 0.4, 50: 0.2, 200: 0.1, 500: 0.05, 1000: 0.025}
    areas |= {1999: 0.025, 2000: 0.0125, 4000: 0.00625, 7999: 0.003125, 8000: 0.0015625}
    assert {query: square._side(query, 1000) for query in areas} == {
        query: round(1000 * area**0.5) for query, area in areas.items()
    }
    assert square._side(9_999, 4) == 1


def test_squares_are_drawn_anew_by_each_seed() -> None:
    x, labels = images(3)
    judge, threat = load_judge("digits", "lenet"), ThreatModel("linf", 0.05)
    first, again, other = (
        Square(queries=3)(
            genrobust.load_model("vae"), Batch(x, range(3), seed, labels, judge=judge), threat
        ).x_adv
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert (first != other).flatten(1).any(1).all()


def test_a_neighbour_margin_is_the_log_odds_of_two_densities() -> None:
    model = genrobust.wrap(Plane())
    codes = torch.tensor([[-0.3, 0.0], [0.2, 0.1], [0.4, -0.1]])
    objective = NeighbourMargin(codes, torch.tensor([0, 1, 1]), {7: 1}, {7: 0.3})
    x = torch.tensor([[[[0.1, 0.2]]]])
    near = (-(x.flatten() - codes).square().sum(1) / (2 * 0.3**2)).exp()
    expected = (near[:1].sum() / near[1:].sum()).log()
    found = objective(x, Context(model, Batch(x, (7,))))
    torch.testing.assert_close(found[0], expected)


def test_another_start_of_a_switch_is_tried_where_the_first_did_not_arrive() -> None:
    model, judge = genrobust.load_model("jointvae"), load_judge("digits", "lenet")
    x, labels = images(6)
    batch, threat = Batch(x, range(6), labels=labels, judge=judge), ThreatModel("linf", 0.05)
    once, thrice = (
        make_attack("code-switch", {"steps": 4, "categories": 2, "restarts": n})(
            model, batch, threat
        )
        for n in (1, 3)
    )
    assert (thrice.loss <= once.loss).all()
    assert (thrice.loss < once.loss).any()
    assert (thrice.backwards <= 3 * once.backwards).all()


@pytest.mark.parametrize(
    ("name", "model", "setting"),
    [("code-switch", "jointvae", "categories"), ("multi-target", "vae", "classes")],
)
def test_what_is_fooled_less_than_by_the_confidence_is_searched_to_the_end(
    name: str, model: str, setting: str
) -> None:
    """Scoring judges are another: one that is only just fooled says little of them."""
    x, labels = images(6)
    batch = Batch(x, range(6), labels=labels, judge=load_judge("digits", "lenet"))
    attack = make_attack(name, {"steps": 20, setting: 2})
    found = attack(genrobust.load_model(model), batch, ThreatModel("linf", 0.1))
    unsure = found.loss >= -4
    assert (unsure & (found.loss < 0)).any()
    assert (~unsure).any()
    assert (found.backwards[unsure] == 2 * 20).all()
    assert (found.backwards[~unsure] < 2 * 20).all()
