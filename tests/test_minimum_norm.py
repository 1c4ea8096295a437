"""The smallest changes: closed forms, foolbox, the bench at the same radii, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from brief_signs import brief_signs
from conftest import LinearBuilder
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust import files
from genrobust.attacks import AttackResult, make_attack
from genrobust.attacks.fmn import HALVINGS, shorten
from genrobust.batch import Batch, Context
from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.judges.judge import Panel
from genrobust.metrics import exact_accuracy, exact_area, exact_eps50
from genrobust.norms import NORMS
from genrobust.objectives.classifier import JudgeMargin
from genrobust.optimizers import Problem, fmn
from genrobust.outcomes.scores import mean
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.runner import curve, smallest, task
from genrobust.runner.shard import Measured
from genrobust.runner.store import Store
from genrobust.seeding import generator
from genrobust.suites import Suite, load_suite
from genrobust.suites.suite import AttackEntry
from genrobust.testing.masks import CLASSIC
from genrobust.threat import ThreatModel

BOX = {norm: ThreatModel(norm, math.inf) for norm in NORMS.names()}


def draw(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator(key))


def norms_of(change: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(change.flatten(1), math.inf if norm == "linf" else 2, dim=1)


# The attack


def linear_problem(linear_vae: LinearBuilder) -> tuple[genrobust.GenerativeModel, Batch]:
    """Five sources well inside the box, and three classes that are linear in them."""
    model = linear_vae(draw(4, 16, key="E"), 0.02 * draw(16, 4, key="D"))
    layer = nn.Linear(16, 3)
    with torch.no_grad():
        layer.weight.copy_(draw(3, 16, key="W"))
        layer.bias.copy_(-0.5 * layer.weight.sum(1) + 0.01 * draw(3, key="b"))
    judge = Judge("linear", nn.Sequential(nn.Flatten(), layer).requires_grad_(False).eval(), "0")
    x = 0.5 + 0.05 * draw(5, 1, 4, 4, key="x")
    labels = judge.labels(model.reconstruct(x))
    return model, Batch(x, (0, 1, 2, 3, 4), 0, labels, judge=judge)


def distances_to_boundaries(
    model: genrobust.GenerativeModel, batch: Batch, norm: str
) -> dict[int, Tensor]:
    """For each class, how far each source is from where it outscores the source's class."""
    assert batch.judge is not None
    assert batch.labels is not None
    network, linear = model.module, batch.judge.module[1]  # type: ignore[index]
    scores = linear(model.reconstruct(batch.x).flatten(1))
    found = {}
    for c in range(3):
        direction = (linear.weight[batch.labels] - linear.weight[c]) @ network.D @ network.E
        dual = torch.linalg.vector_norm(direction, 1 if norm == "linf" else 2, dim=1)
        lead = scores.gather(1, batch.labels[:, None])[:, 0] - scores[:, c]
        found[c] = torch.where(batch.labels == c, math.inf, lead / dual)
    return found


@pytest.mark.parametrize("norm", NORMS.names())
def test_fmn_reaches_the_nearest_linear_boundary(norm: str, linear_vae: LinearBuilder) -> None:
    model, batch = linear_problem(linear_vae)
    boundaries = distances_to_boundaries(model, batch, norm)
    nearest = torch.stack(list(boundaries.values())).amin(0)
    found = make_attack("fmn")(model, batch, BOX[norm])
    assert found.success is not None
    assert found.success.all()
    distance = norms_of(found.x_adv - batch.x, norm)
    assert (distance >= nearest * (1 - 1e-4)).all(), "nothing nearer is adversarial"
    torch.testing.assert_close(distance, nearest, rtol=0.01, atol=0)


@pytest.mark.parametrize("norm", NORMS.names())
def test_fmn_reaches_the_targets_linear_boundary(norm: str, linear_vae: LinearBuilder) -> None:
    model, batch = linear_problem(linear_vae)
    assert batch.labels is not None
    targets = (batch.labels + 1) % 3
    boundaries = distances_to_boundaries(model, batch, norm)
    lower = torch.stack([boundaries[int(t)][i] for i, t in enumerate(targets)])
    aimed = Batch(batch.x, batch.sample_ids, 0, batch.labels, None, targets, batch.judge)
    found = make_attack("fmn")(model, aimed, BOX[norm])
    assert found.success is not None
    assert found.success.all()
    distance = norms_of(found.x_adv - batch.x, norm)
    assert (distance >= lower * (1 - 1e-4)).all()
    # With a third class in between, the target's region begins a little further off.
    assert (distance <= lower * 1.5).all()
    assert (distance <= lower * 1.01).sum() >= 3


def test_inside_a_ball_fmn_gives_the_nearest_or_the_best_image(linear_vae: LinearBuilder) -> None:
    model, batch = linear_problem(linear_vae)
    nearest = torch.stack(list(distances_to_boundaries(model, batch, "linf").values())).amin(0)
    middle = float(nearest.median())
    found = make_attack("fmn")(model, batch, ThreatModel("linf", middle * 1.02))
    reachable = nearest <= middle
    assert torch.equal(found.success, reachable)
    torch.testing.assert_close(
        norms_of(found.x_adv - batch.x, "linf")[reachable], nearest[reachable], rtol=0.01, atol=0
    )
    clean = Problem.of(JudgeMargin(), Context(model, batch)).loss(batch.x)
    assert (found.loss[~reachable] < 0.6 * clean[~reachable]).all()


@pytest.mark.slow
def test_confidence_is_kept_on_the_deployed_path_of_a_categorical_code() -> None:
    images, judge = genrobust.load_images("digits"), genrobust.load_judge("digits", "lenet")
    model = genrobust.load_model("jointvae")
    labels = images.labels_of(range(3))
    batch = Batch(images.take(range(3)), (0, 1, 2), 0, labels, judge=judge)
    settings = {"steps": 60, "classes": 1, "categories": 2}
    near, far = (
        make_attack("fmn", {**settings, "confidence": confidence})(model, batch, BOX["l2"])
        for confidence in (0.0, 3.0)
    )
    for found, confidence in ((near, 0.0), (far, 3.0)):
        deployed = judge.logits(model.reconstruct(found.x_adv))
        own = deployed.gather(1, labels[:, None])[:, 0]
        other = deployed.scatter(1, labels[:, None], -torch.inf).amax(1)
        torch.testing.assert_close(found.loss, own - other, atol=1e-3, rtol=0)
        assert (found.loss < -confidence).sum() >= 2
    both = (near.loss < 0) & (far.loss < -3.0)
    assert (norms_of(near.x_adv - batch.x, "l2") <= norms_of(far.x_adv - batch.x, "l2"))[both].all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("norm", NORMS.names())
def test_fmn_finds_what_foolbox_finds(norm: str) -> None:
    images, judge = genrobust.load_images("digits"), genrobust.load_judge("digits", "lenet")
    model = genrobust.load_model("vae")
    ids = tuple(range(4))
    batch = Batch(images.take(ids), ids, 0, images.labels_of(ids), judge=judge)
    name = {"linf": "foolbox:LInfFMNAttack", "l2": "foolbox:L2FMNAttack"}[norm]
    theirs = make_attack(name, {"steps": 50})(model, batch, BOX[norm])
    ours = make_attack("fmn", {"steps": 50, "classes": 1})(model, batch, BOX[norm])

    def nearest(found: AttackResult) -> Tensor:
        assert found.success is not None
        distance = norms_of(found.x_adv - batch.x, norm)
        return torch.where(found.success, distance, torch.inf)

    assert (nearest(ours) <= 1.05 * nearest(theirs)).all()
    assert nearest(ours).median() <= nearest(theirs).median()


def algorithm_1(
    loss: Callable[[Tensor], Tensor], x: Tensor, norm: str, steps: int, first: float, gamma: float
) -> Iterator[Tensor]:
    """The iterates of one image, as Pintor et al. 2021 print it: below 0 the loss is a success.

    Steps have the Euclidean length, and the dual norm of the gradient gives the first radii.
    """
    p, dual = {"linf": (math.inf, 1), "l2": (2, 2)}[norm]
    change, radius, nearest = torch.zeros_like(x), math.inf, math.inf
    for k in range(steps):
        falling = (1 + math.cos(k * math.pi / steps)) / 2
        alpha = 0.01 * first + falling * (first - 0.01 * first)
        share = 0.001 + falling * (gamma - 0.001)
        moved = (x + change).requires_grad_()
        yield moved.detach()
        value = loss(moved)
        (slope,) = torch.autograd.grad(value, moved)
        height, length = value.item(), float(torch.linalg.vector_norm(change, p))
        if height < 0:
            nearest = min(nearest, length)
            radius = min(radius * (1 - share), nearest)
        elif nearest == math.inf:
            radius = length + height / float(torch.linalg.vector_norm(slope, dual))
        else:
            radius *= 1 + share
        change = change - alpha * slope / torch.linalg.vector_norm(slope)
        if norm == "linf":
            change = change.clamp(-radius, radius)
        else:
            change = change * min(1.0, radius / float(torch.linalg.vector_norm(change)))
    yield x + change


@pytest.mark.parametrize("norm", NORMS.names())
def test_fmn_walks_as_the_papers_algorithm_does(norm: str) -> None:
    """On a bent loss, and where the box is far."""
    first, second = (draw(9, 9, key=key).double() for key in ("first", "second"))

    def bent(x: Tensor) -> Tensor:
        return ((x.flatten(1) @ first).sin() @ second).square().mean(1) - 1

    x = 0.5 + 0.01 * draw(6, 1, 3, 3, key="x").double()
    context = Context(genrobust.load_model("vae"), Batch(x, tuple(range(6))))
    seen: list[Tensor] = []
    below: list[Tensor] = []

    def visit(moved: Tensor) -> Tensor:
        seen.append(moved.clone())
        below.append(bent(moved) < 0)
        return below[-1]

    problem, size, gamma = Problem.of(lambda x_adv, _: bent(x_adv), context), 0.05, 0.2
    fmn(problem, x, BOX[norm], 30, visit, step_size=size, gamma=gamma)
    assert torch.stack(below).any(0).sum() >= 3, "both ways of setting a radius are gone"
    assert not torch.stack(below)[1:].all(0).any()
    for i in range(6):
        walk = list(algorithm_1(bent, x[i : i + 1], norm, 30, size, gamma))
        ours = torch.cat([moved[i : i + 1] for moved in seen])
        torch.testing.assert_close(ours, torch.cat(walk), atol=1e-7, rtol=0)


def test_a_success_is_expected_where_the_loss_is_as_low_as_it_is_told() -> None:
    """Of a loss along a line the first radius is the way to there, and 0 unless told."""
    x = torch.full((1, 1, 1, 1), 0.25)
    context = Context(genrobust.load_model("vae"), Batch(x, (0,)))
    problem = Problem.of(lambda x_adv, _: 0.5 - x_adv.flatten(1).sum(1), context)
    for told, place in (({}, 0.5), ({"below": 0.125}, 0.375)):
        seen: list[float] = []

        def visit(moved: Tensor, seen: list[float] = seen) -> Tensor:
            seen.append(float(moved))
            return torch.zeros(1, dtype=torch.bool)

        fmn(problem, x, BOX["linf"], 1, visit, step_size=9.0, gamma=0.1, **told)
        assert seen == [0.25, place]


@pytest.mark.parametrize("norm", NORMS.names())
def test_the_optimizer_keeps_every_radius_and_counts(norm: str, linear_vae: LinearBuilder) -> None:
    model, batch = linear_problem(linear_vae)
    problem = Problem.of(JudgeMargin(), Context(model, batch))
    within = torch.tensor([0.0, 0.001, 0.01, 0.02, 1.0])
    seen: list[Tensor] = []

    def visit(x_adv: Tensor) -> Tensor:
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
        seen.append(norms_of(x_adv - batch.x, norm))
        return torch.zeros(len(x_adv), dtype=torch.bool)

    threat = ThreatModel(norm, 0.5)
    fmn(problem, batch.x, threat, 7, visit, step_size=1.0, gamma=0.1, within=within)
    assert len(seen) == 8
    assert (torch.stack(seen) <= torch.minimum(within, torch.tensor(0.5)) + 1e-6).all()
    assert problem.backwards.tolist() == [7] * 5


@pytest.mark.parametrize("norm", NORMS.names())
def test_after_a_success_no_iterate_is_farther_than_the_nearest_one(
    norm: str, linear_vae: LinearBuilder
) -> None:
    model, batch = linear_problem(linear_vae)
    problem = Problem.of(JudgeMargin(), Context(model, batch))
    seen: list[Tensor] = []

    def visit(x_adv: Tensor) -> Tensor:
        seen.append(norms_of(x_adv - batch.x, norm))
        return torch.ones(len(x_adv), dtype=torch.bool)

    start = ThreatModel(norm, 0.02).random_start(batch.x, batch.sample_ids, 0)
    fmn(problem, start, ThreatModel(norm, 9.0), 7, visit, step_size=5.0, gamma=0.1)
    distances = torch.stack(seen)
    assert (distances[0] > 0).all()
    assert (distances[1:] <= distances.cummin(0).values[:-1] + 1e-6).all()


@given(st.floats(0.01, 0.99), st.floats(0.1, 4.0))
def test_shortening_stops_at_the_threshold(threshold: float, length: float) -> None:
    x, x_adv = torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), length)
    found = shorten(x_adv, x, lambda image: image.flatten(1).amax(1) > threshold * length)
    share = float(found.max()) / length
    assert threshold * (1 - 1e-6) <= share <= threshold + 2.0**-HALVINGS + 1e-6


def test_shortening_leaves_what_does_not_hold() -> None:
    x_adv = torch.ones(2, 1, 1, 1)
    found = shorten(x_adv, torch.zeros(2, 1, 1, 1), lambda image: torch.zeros(len(image)) > 0)
    assert torch.equal(found, x_adv)


# Which attacks try to do better, where, and of which sources


def test_radii_are_gone_through_from_the_largest_down_after_the_searches_in_the_box() -> None:
    """What is found nearer in a large ball is then sought nearer still in the ball inside it."""
    spec: Any = SimpleNamespace(attacks=("a", "b"), searches=("s",), eps=(0.0, 0.1, 0.2))
    inside = [(row, name, e) for e in (2, 1) for row, name in enumerate("ab")]
    assert [*smallest._stages(spec)] == [(3, "s", 3), *inside]


def test_a_radius_is_tried_on_what_lies_between_it_and_the_next_larger_one() -> None:
    distance = torch.tensor([0.0, 0.1, 0.1001, 0.2, 0.2001, math.inf, 0.15])
    eligible = torch.tensor([True] * 6 + [False])
    so_far: Any = SimpleNamespace(distance=distance, baseline=SimpleNamespace(eligible=eligible))

    def between(radius: float, larger: float) -> list[int]:
        return smallest._NearestSoFar.between(so_far, radius, larger).tolist()

    assert between(0.1, 0.2) == [2, 3]
    assert between(0.2, math.inf) == [4, 5]
    assert between(math.inf, math.inf) == [0, 1, 2, 3, 4, 5]


# Closed forms of the curve

DISTANCES = st.lists(
    st.one_of(st.just(0.0), st.just(math.inf), st.floats(1e-3, 2.0)),
    min_size=1,
    max_size=12,
)


@given(DISTANCES, st.floats(0.05, 3.0))
def test_the_area_is_that_under_the_steps(distances: list[float], radius: float) -> None:
    distance = torch.tensor(distances, dtype=torch.float64)
    corners = sorted({0.0, radius, *(d for d in distances if d < radius)})
    middles = [(a + b) / 2 for a, b in pairwise(corners)]
    widths = torch.tensor(corners, dtype=torch.float64).diff()
    by_steps = float((exact_accuracy(distance, middles) * widths).sum()) / radius
    assert float(exact_area(distance, radius)) == pytest.approx(by_steps, abs=1e-12)


@given(DISTANCES)
def test_eps50_is_the_first_radius_where_half_have_fallen(distances: list[float]) -> None:
    distance = torch.tensor(distances, dtype=torch.float64)
    radii = [0.0, *sorted(d for d in distances if 0 < d < math.inf)]
    shares = exact_accuracy(distance, radii).tolist()
    half = shares[0] / 2
    expected = next((r for r, s in zip(radii, shares, strict=True) if s <= half + 1e-12), math.inf)
    assert float(exact_eps50(distance)) == expected


@given(DISTANCES)
def test_the_exact_numbers_work_on_rows(distances: list[float]) -> None:
    distance = torch.tensor(distances, dtype=torch.float64)
    rows = torch.stack([distance, distance.flip(0)])
    torch.testing.assert_close(exact_area(rows, 0.5), exact_area(distance, 0.5).expand(2))
    assert torch.equal(exact_eps50(rows), exact_eps50(distance).expand(2))


@pytest.mark.parametrize("bad", [[], [-0.1], [math.nan]])
def test_distances_that_are_none_are_refused(bad: Sequence[float]) -> None:
    for measure in (lambda d: exact_area(d, 1.0), lambda d: exact_accuracy(d, [0.1]), exact_eps50):
        with pytest.raises(GenrobustError, match="distance"):
            measure(torch.tensor(bad))
    with pytest.raises(GenrobustError, match="radius"):
        exact_area(torch.ones(2), 0.0)


# The measurement

QUICK = (
    AttackEntry(
        attack="fmn", goal="untargeted", settings={"confidence": 2.0, "steps": 12, "classes": 1}
    ),
)


@pytest.fixture(scope="module")
def quick_suite(small_suite: Suite) -> Suite:
    """Three sources in two shards, and two of the suite's attacks."""
    known, goal = ("noise", "classifier"), "untargeted"
    few = tuple(e for e in small_suite.attacks if e.attack in known and e.goal == goal)[:2]
    judge = load_suite("digits-v1").attacker_judge  # one, which takes a third of the time
    update = {"attacks": few, "eps": (0.03, 0.06, 0.2), "attacker_judge": judge}
    return small_suite.limited(3).model_copy(update=update)


@pytest.fixture(scope="module")
def finished(quick_suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curve, "SEARCHES", QUICK)
        genrobust.minimum_norm("vae", quick_suite, out=folder, workers=1, radius=0.1)
    return folder


@pytest.fixture
def record(finished: Path) -> MinimumNormRecord:
    return MinimumNormRecord.model_validate_json((finished / "curve.json").read_text())


def shards(folder: Path) -> dict[str, dict[str, Tensor]]:
    places = sorted((folder / "shards").iterdir())
    return {place.name: files.read_tensors(place)[0] for place in places}


def test_the_record_follows_its_schema_and_its_numbers_follow_from_its_sources(
    finished: Path, record: MinimumNormRecord
) -> None:
    text = (finished / "curve.json").read_text()
    jsonschema.validate(json.loads(text), MinimumNormRecord.model_json_schema())
    none = {True: math.inf, False: 0.0}
    found = [none[s.eligible] if s.distance is None else s.distance for s in record.sources]
    distance = torch.tensor(found, dtype=torch.float64)
    assert record.found == int(((distance > 0) & distance.isfinite()).sum()) >= 2
    assert [area.radius for area in record.areas] == [0.2, 0.1]
    for area in record.areas:
        assert area.area.value == pytest.approx(float(exact_area(distance, area.radius)))
        assert area.area.low <= area.area.value <= area.area.high
    assert record.eps50.value == float(exact_eps50(distance))
    shares = exact_accuracy(distance, record.curve.radius).tolist()
    assert record.curve.robust_accuracy == pytest.approx(shares)
    assert list(record.curve.robust_accuracy) == sorted(shares, reverse=True)
    at_zero = record.curve.robust_accuracy[0]
    assert (record.curve.radius[0], at_zero) == (0.0, record.eligible / len(record.sources))
    for at in record.per_eps:
        share = float(exact_accuracy(distance, [at.eps])[0])
        assert at.robust_accuracy.value == pytest.approx(share)


def test_every_distance_is_that_of_an_image_that_the_scoring_judges_are_fooled_by(
    finished: Path, record: MinimumNormRecord
) -> None:
    judges = [genrobust.load_judge("digits", name) for name in ("vgg", "resnet")]
    panel, model = Panel(tuple(judges)), genrobust.load_model("vae")
    images = genrobust.load_images("digits")
    by_first = {float(t["source"].sum()): t for t in shards(finished).values()}
    for first in (0, 2):
        part = record.sources[first : first + 2]
        ids = [s.sample_id for s in part]
        x, labels = images.take(ids), images.labels_of(ids)
        tensors = by_first[float(x.sum())]
        x_adv = tensors["x_adv"]
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1
        seen = panel.verdict(model.reconstruct(x_adv))
        for i, source in enumerate(part):
            if source.distance is None:
                continue
            assert float((x_adv[i] - x[i]).abs().max()) == pytest.approx(source.distance)
            assert int(seen[i]) not in (-1, int(labels[i]))
            assert int(panel.verdict(x_adv)[i]) == int(labels[i])


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(
    finished: Path, quick_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve, "SEARCHES", QUICK)
    genrobust.minimum_norm("vae", quick_suite, out=tmp_path, workers=2, radius=0.1)
    before, after = (json.loads((f / "curve.json").read_text()) for f in (finished, tmp_path))
    assert before.pop("times") != after.pop("times")
    assert before == after
    one, two = shards(finished), shards(tmp_path)
    assert one.keys() == two.keys()
    for name, tensors in one.items():
        assert files.sha256_of_tensors(tensors) == files.sha256_of_tensors(two[name])


def test_a_run_that_was_stopped_goes_on(
    finished: Path, quick_suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve, "SEARCHES", QUICK)
    kept, *_ = sorted((finished / "shards").iterdir())
    files.write_bytes(tmp_path / "shards" / kept.name, kept.read_bytes())
    searched = []

    def search(spec: curve.MinimumNormSpec, *rest: object) -> Measured | None:
        searched.append(spec.key)
        return None if len(searched) > 1 else Store(finished).read(spec)

    monkeypatch.setattr(task, "run_shard", search)
    genrobust.minimum_norm("vae", quick_suite, out=tmp_path, workers=1, radius=0.1)
    assert [f"{key}.safetensors" for key in searched] == sorted(shards(finished))[1:]
    assert shards(tmp_path).keys() == shards(finished).keys()


def test_intervals_are_those_of_a_bench(record: MinimumNormRecord) -> None:
    distance = torch.tensor([0.0 if s.distance is None else s.distance for s in record.sources])
    for at in record.per_eps:
        theirs = mean(distance > at.eps, record.suite)
        assert at.robust_accuracy.low == pytest.approx(theirs.low)
        assert at.robust_accuracy.high == pytest.approx(theirs.high)
    drawn = torch.cat([*curve._resampled(distance.double(), record.suite)]).numpy()
    tails = np.quantile((drawn > record.curve.radius[1]).mean(1), [0.025, 0.975])
    assert [record.curve.low[1], record.curve.high[1]] == pytest.approx(list(tails))


@pytest.mark.slow
def test_the_suites_own_attacks_better_what_fmn_missed(
    quick_suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without fmn, the curve is that of the suite's attacks at its radii."""
    monkeypatch.setattr(curve, "SEARCHES", ())
    old = load_suite("digits-v1")
    few = [e for e in old.attacks if e.attack in ("noise", "classifier")][:2]
    short = [e.model_copy(update={"settings": e.settings and {"steps": 6}}) for e in few]
    update = {"attacks": tuple(short), "attacker_judge": old.attacker_judge}
    suite = quick_suite.limited(2).model_copy(update=update)
    found = genrobust.minimum_norm("vae", suite, workers=1)
    assert found.searches[1].label.startswith("noise")
    assert sum(search.nearer for search in found.searches[1:]) >= 1
    assert "beaten" in " ".join(flag.name for flag in found.flags)
    assert found.per_eps[-1].robust_accuracy.value == 0
    assert all(s.distance is not None and s.distance <= 0.2 + 1e-5 for s in found.sources)


def test_another_norm_scales_the_radii(quick_suite: Suite) -> None:
    empty = quick_suite.model_copy(update={"attacks": quick_suite.attacks[:1]}).limited(1)
    prepared = curve.prepare_curve("vae", empty, curve.Options(norm="l2"))
    assert prepared.suite.norm == "l2"
    assert prepared.suite.eps == pytest.approx([32 * eps for eps in empty.eps])
    assert curve._areas(prepared) == pytest.approx([32 * 0.2])
    assert any("l2" in words for words in prepared.deviations)
    assert "genrobust curve" in prepared.command
    assert "--norm l2" in prepared.command


def test_where_nothing_is_eligible_or_found_the_numbers_say_so(
    record: MinimumNormRecord,
) -> None:
    from genrobust.report.curve import curve_headline, render_curve
    from genrobust.report.terminal import curve_table

    suite, infinite = record.suite, torch.full((4,), torch.inf, dtype=torch.float64)
    drawn = torch.cat([*curve._resampled(infinite, suite)])
    nothing = curve._radius(exact_eps50(infinite), exact_eps50(drawn), suite)
    assert (nothing.value, nothing.low, nothing.high) == (None, None, None)
    assert curve._curve(infinite, suite).robust_accuracy == (1.0,)
    unfound = record.model_copy(update={"eps50": nothing, "found": 0})
    assert "fewer than half" in curve_headline(unfound)
    assert "nothing to break" in curve_headline(record.model_copy(update={"eligible": 0}))
    model = record.model.model_copy(update={"name": "<script>"})
    page = render_curve(unfound.model_copy(update={"model": model}), [])
    assert "<script>" not in page
    console = Console(width=120, record=True, file=StringIO())
    console.print(curve_table(unfound))
    assert "above all" in console.export_text()


def test_the_page_is_whole_and_loads_nothing(finished: Path, record: MinimumNormRecord) -> None:
    page = (finished / "curve.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert record.eps50.value is not None
    assert f"{record.eps50.value:.4g}" in page
    for at in record.per_eps:
        assert f"{at.robust_accuracy.value:.1%}" in page
    assert page.count('class="example"') == len({s.label for s in record.sources if s.eligible})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "nope"], "unknown model 'nope'"),
        (["--model", "vae", "--norm", "l3"], "unknown norm 'l3'"),
        (["--model", "vae", "--limit", "0"], "limit is 0"),
        (["--model", "vae", "--radius", "0"], "radius 0"),
        (["--model", "vae", "--suite", "nope"], "unknown suite 'nope'"),
        (["--model", "vae", "--weights", "nope.pt"], "nope.pt"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    options: list[str], words: str, tmp_path: Path
) -> None:
    shown = CliRunner().invoke(app, ["curve", *options, "--out", str(tmp_path / "out")])
    assert shown.exit_code == 2
    assert words in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_suite_without_judges_is_refused(small_suite: Suite) -> None:
    update = {"rule": "distance", "scoring_judges": (), "attacker_judge": None}
    with pytest.raises(GenrobustError, match="scores by distance"):
        genrobust.minimum_norm("vae", small_suite.model_copy(update=update))


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_its_files(
    tmp_path: Path, quick_suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve, "SEARCHES", QUICK[:1])
    one = tmp_path / "suite.json"
    one.write_text(quick_suite.limited(1).model_dump_json())
    command = ["curve", "--model", "vae", "--suite", str(one), "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0, shown.output
    for word in (
        "eps50",
        "area",
        "median distance",
        "found",
        "seconds",
        "not official",
        "reliable",
    ):
        assert word in shown.stdout
    folder = tmp_path / "out" / "digits-v2" / "vae" / "linf"
    assert {p.name for p in folder.iterdir()} == {
        *("plan.json", "shards", "curve.json", "curve.html", "examples.safetensors")
    }
    written = MinimumNormRecord.model_validate_json((folder / "curve.json").read_text())
    assert written.provenance.command.startswith("genrobust curve --model vae")


def shares_that_stand(model: str, limit: int) -> list[list[float]]:
    """By the curve and by the bench, at the same radii and by the same attacks."""
    suite = load_suite("digits-v1").with_attacks(["noise", "classifier"]).with_eps([0.04, 0.1])
    with brief_signs():
        curved = genrobust.minimum_norm(model, suite, limit=limit).per_eps
        benched = genrobust.bench(model, suite, limit=limit).scores.per_eps
    return [[at.robust_accuracy.value for at in per_eps] for per_eps in (curved, benched)]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vae", "jointvae"])
def test_the_curve_goes_through_the_bench(model: str) -> None:
    """At the suite's radii it is at most the bench's number, and not far below it."""
    curved, benched = shares_that_stand(model, 8)
    for ours, theirs in zip(curved, benched, strict=True):
        assert -0.15 <= ours - theirs <= 0.05
    assert 0 < benched[0] < 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quantised input", "another gradient"])
def test_a_masked_model_is_no_more_robust_than_its_bench_says(name: str) -> None:
    mask = next(mask for mask in CLASSIC if mask.name == name)
    model, suite = mask.hidden(genrobust.load_model("vae")), load_suite("digits-v1")
    suite = suite.with_eps([0.04, 0.1])
    curved = genrobust.minimum_norm(model, suite, limit=10)
    bench = genrobust.bench(model, suite, limit=10)
    for ours, theirs in zip(curved.per_eps, bench.scores.per_eps, strict=True):
        assert ours.robust_accuracy.value <= theirs.robust_accuracy.value + 0.1, ours.eps
