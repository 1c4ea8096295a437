"""Random deployments and deployments of their own: keyed draws, majorities, means of gradients."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LinearVAE
from principal import bright
from some_sources import sources_of
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.batch import Batch, Context
from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.files import read_tensors
from genrobust.judges.judge import NO_VERDICT, Judge
from genrobust.models.inputs import probe_images
from genrobust.models.wrapping import adapt
from genrobust.optimizers import Problem
from genrobust.posterior import Posterior
from genrobust.rules.agreement import Agreement
from genrobust.runner.measure import measure_baseline
from genrobust.runner.options import Options
from genrobust.runner.plan import plan
from genrobust.runner.prepare import prepare
from genrobust.runner.scorer import Scorer
from genrobust.runner.shard import make_batch
from genrobust.runner.signs import diagnose, guidance_of
from genrobust.seeding import generator, seeded
from genrobust.suites import AttackEntry, Suite
from genrobust.testing import ModelConformance
from genrobust.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("brief")

SPREAD = 0.1


def noisy(model: genrobust.GenerativeModel, draws: int) -> genrobust.GenerativeModel:
    """The model deployed behind noise on its input; attacks differentiate through it without."""

    def deploy(x: Tensor) -> Tensor:
        return model.reconstruct(x + SPREAD * torch.randn_like(x))

    return genrobust.wrap(
        model.module,
        encode=model.encode,
        decode=model.decode,
        deploy=deploy,
        draws=draws,
        input_shape=model.input_shape,
        name="noisy",
    )


def noisy_inside(
    model: genrobust.GenerativeModel, draws: int, spread: float = SPREAD
) -> genrobust.GenerativeModel:
    """The same with the noise inside the encoder, where attacks meet it."""
    return genrobust.wrap(
        model.module,
        encode=lambda x: model.encode(x + spread * torch.randn_like(x)),
        decode=model.decode,
        draws=draws,
        input_shape=model.input_shape,
        name="noisy inside",
    )


@pytest.fixture(scope="module")
def vae() -> genrobust.GenerativeModel:
    """Good on digits, and cheap."""
    return bright()


@pytest.fixture
def suite(small_suite: Suite) -> Suite:
    """Two sources, a short attack of each kind."""
    short: tuple[tuple[str, dict[str, int]], ...] = (
        ("classifier", {"steps": 3}), ("nearest", {"steps": 2, "classes": 1}),
        ("square", {"queries": 3}),
    )  # fmt: skip
    entries = [AttackEntry(attack=a, goal="untargeted", settings=s) for a, s in short]
    entries += [AttackEntry(attack="latent", goal="targeted", settings={"steps": 3})]
    return small_suite.limited(2).model_copy(update={"attacks": tuple(entries), "eps": (0.1,)})


def scorer(model: genrobust.GenerativeModel, suite: Suite, seed: int = 0) -> Scorer:
    return prepare(model, suite, Options(seed=seed)).loaded.scorer


# Draws


def test_draws_of_a_model_that_draws_nothing_are_told_and_excuse_nothing(
    vae: genrobust.GenerativeModel,
) -> None:
    given: dict[str, Any] = {"decode": vae.decode, "input_shape": vae.input_shape, "draws": 2}
    with pytest.warns(GenrobustWarning, match=r"draws=2, and .* draws nothing"):
        genrobust.wrap(vae.module, encode=vae.encode, **given)
    before = []

    def encode(x: Tensor) -> Posterior:
        """Gives less of what follows one image alone."""
        alone = before[-1:] == [1]
        before.append(len(x))
        return vae.encode(0.5 * x if alone else x)

    with (
        pytest.warns(GenrobustWarning, match="draws nothing"),
        pytest.raises(GenrobustError, match="changes with what went through the model before it"),
    ):
        genrobust.wrap(vae.module, encode=encode, **given)


@pytest.mark.slow
@pytest.mark.parametrize("place", [noisy, noisy_inside])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    place: Callable[..., genrobust.GenerativeModel],
    vae: genrobust.GenerativeModel,
    suite: Suite,
    tmp_path: Path,
) -> None:
    model, found, suite = place(vae, draws=2), {}, suite.limited(1)
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        torch.manual_seed(len(name))
        before = torch.get_rng_state()
        genrobust.bench(model, suite, seed=seed, out=tmp_path / name)
        assert torch.equal(torch.get_rng_state(), before)
        record = json.loads((tmp_path / name / "record.json").read_text())
        del record["times"]
        shards = sorted((tmp_path / name / "shards").iterdir())
        found[name] = record, [read_tensors(path)[0] for path in shards]
    (first, shards), (again, repeated), (_, others) = found.values()
    assert first == again
    for one, same, other in zip(shards, repeated, others, strict=True):
        assert one.keys() == same.keys()
        for name, tensor in one.items():
            assert torch.equal(tensor.nan_to_num(), same[name].nan_to_num()), name
        assert not torch.equal(one["reconstruction"], other["reconstruction"])


def test_a_samples_draws_are_its_own_in_any_chunk(
    vae: genrobust.GenerativeModel, suite: Suite
) -> None:
    look = scorer(noisy(vae, draws=3), suite)
    x, ids = genrobust.load_images("digits").take(range(4)), [7, 8, 9, 10]
    whole = look.reconstruct(x, ids)
    assert whole.shape == (3, 4, 1, 32, 32)
    assert not torch.equal(whole[0], whole[1])
    for chosen in ([2], [3, 0], [1, 2]):
        part = look.reconstruct(x[chosen], [ids[i] for i in chosen])
        assert torch.equal(part, whole[:, chosen])
    renamed = look.reconstruct(x, [1, 2, 3, 4])
    assert not torch.equal(renamed, whole)
    assert not torch.equal(scorer(noisy(vae, 3), suite, seed=1).reconstruct(x, ids), whole)


def test_scores_do_not_depend_on_the_size_of_a_chunk(
    vae: genrobust.GenerativeModel, suite: Suite
) -> None:
    model = noisy(vae, draws=3)
    prepared = prepare(model, suite, Options())

    def baselines(size: int) -> Tensor:
        specs = plan(suite.model_copy(update={"chunk_size": size}), "f", 0, "cpu")
        setting = prepared.loaded
        each = [measure_baseline(setting.scorer, make_batch(spec, setting)) for spec in specs]
        return torch.cat([one.reconstruction for one in each])

    assert torch.equal(baselines(1), baselines(3))


def test_record_and_report_state_draws_and_deployment(
    vae: genrobust.GenerativeModel, suite: Suite, tmp_path: Path
) -> None:
    quick = suite.limited(1).with_attacks(["noise"])
    record = genrobust.bench(noisy(vae, draws=4), quick, out=tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "4 of a random deployment" in page
    assert "a path of its own" in page
    assert (record.model.draws, record.model.deploy) == (4, True)
    plain = prepare(vae, quick, Options()).model
    assert (plain.draws, plain.deploy) == (1, False)
    assert record.model.fingerprint != plain.fingerprint
    assert noisy(vae, draws=5).fingerprint() != record.model.fingerprint


def test_one_worker_draws_whatever_is_asked_for(
    vae: genrobust.GenerativeModel, suite: Suite
) -> None:
    assert prepare(noisy(vae, draws=2), suite, Options(workers=4)).workers == 1
    assert prepare(vae, suite, Options(workers=4)).workers == 4


@pytest.mark.parametrize("name", ["latent", "classifier", "square"])
def test_an_attack_in_a_notebook_can_be_repeated(name: str, vae: genrobust.GenerativeModel) -> None:
    images, judge = genrobust.load_images("digits"), genrobust.load_judge("digits", "lenet")
    x, labels = images.take(range(3)), images.labels_of(range(3))
    budget = {"queries": 3} if name == "square" else {"steps": 3}
    model, found = noisy_inside(vae, draws=2), []
    for start in (1, 2):
        torch.manual_seed(start)
        before = torch.get_rng_state()
        found.append(
            genrobust.attack(name, model, x, labels=labels, judge=judge, eps=0.1, **budget)
        )
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0].x_adv, found[1].x_adv)
    assert torch.equal(found[0].loss, found[1].loss)


# Expectations over draws


def linear(draws: int, spread: float) -> genrobust.GenerativeModel:
    """x_hat = D E (x + n) + 1/2 with Gaussian n."""
    encoder = 0.3 * torch.randn(3, 16, generator=generator("E"))
    decoder = 0.1 * torch.randn(16, 3, generator=generator("D"))
    sound = genrobust.wrap(LinearVAE(encoder, decoder), clamp=True)
    inside = noisy_inside(sound, draws, spread)
    return inside


def squared_code(x_adv: Tensor, context: Context) -> Tensor:
    return context.model.encode(x_adv).vector().square().sum(1)


@pytest.mark.parametrize("draws", [2, 3, 16])
def test_the_gradient_is_that_of_the_mean_over_draws(draws: int) -> None:
    model, spread = linear(draws, spread=0.2), 0.2
    encoder = model.module.E
    x = torch.rand(5, 1, 4, 4, generator=generator("x"))
    problem = Problem.of(squared_code, Context(model, Batch(x, tuple(range(5)))))
    with seeded(x.device, "draws"):
        loss, gradient = problem.gradient(x)
    with seeded(x.device, "draws"):
        seen = torch.stack([x + spread * torch.randn_like(x) for _ in range(draws)]).flatten(2)
    codes = seen @ encoder.T
    torch.testing.assert_close(loss, codes.square().sum(2).mean(0))
    expected = 2 * codes.mean(0) @ encoder  # of a square, the gradient at the mean of the draws
    torch.testing.assert_close(gradient.flatten(1), expected)
    assert problem.forwards.tolist() == problem.backwards.tolist() == [draws] * 5


def test_the_mean_over_many_draws_comes_near_the_expectation() -> None:
    model, spread = linear(400, spread=0.2), 0.2
    encoder = model.module.E
    x = torch.rand(2, 1, 4, 4, generator=generator("x"))
    problem = Problem.of(squared_code, Context(model, Batch(x, (0, 1))))
    with seeded(x.device, "many"):
        loss, gradient = problem.gradient(x)
    code = x.flatten(1) @ encoder.T
    expected = code.square().sum(1) + spread**2 * encoder.square().sum()
    torch.testing.assert_close(loss, expected, rtol=0.1, atol=0)
    slope = 2 * code @ encoder
    assert (gradient.flatten(1) - slope).norm() < 0.1 * slope.norm()


def test_a_path_that_is_not_random_is_passed_twice_and_no_more(
    vae: genrobust.GenerativeModel,
) -> None:
    x = genrobust.load_images("digits").take(range(2))
    model = noisy(vae, draws=16)
    found = genrobust.attack("latent", model, x, target=x.flip(0), steps=5)
    assert found.backwards.tolist() == [10, 10]
    exact = genrobust.attack("latent", vae, x, target=x.flip(0), steps=5)
    torch.testing.assert_close(found.x_adv, exact.x_adv)


def test_a_random_deployment_falls_to_the_attack_that_the_model_without_noise_falls_to() -> None:
    images, judge = genrobust.load_images("digits"), genrobust.load_judge("digits", "lenet")
    x, labels = images.take(range(8)), images.labels_of(range(8))
    model = noisy_inside(genrobust.load_model("vae"), draws=4)
    found = genrobust.attack("classifier", model, x, labels=labels, judge=judge, eps=0.1, steps=20)
    ThreatModel("linf", 0.1).check(found.x_adv, x, "the attack")
    with seeded(x.device, "fresh"):
        fooled = torch.stack([judge.labels(model.reconstruct(found.x_adv)) for _ in range(20)])
    assert (fooled != labels).float().mean() > 0.9


# Majorities


class _Reads(nn.Module):
    """Sees the class that an image's only pixel names."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(x.flatten(1)[:, 0].long(), 10).float()


def test_what_most_draws_show_is_the_verdict(vae: genrobust.GenerativeModel) -> None:
    rule = Agreement((Judge("a", _Reads(), ""), Judge("b", _Reads(), "")))
    votes = torch.tensor([[3, 3, 5, 5, 1], [3, 4, 5, 6, 2], [3, 4, 6, 7, 1.0]])
    look, sources = Scorer(rule, vae, 0), sources_of(range(5))
    verdict = look.verdict(votes.view(3, 5, 1, 1, 1), sources)
    assert verdict.tolist() == [3, 4, 5, NO_VERDICT, 1]
    even = look.verdict(votes[:2].view(2, 5, 1, 1, 1), sources)
    assert even.tolist() == [3, NO_VERDICT, 5, NO_VERDICT, NO_VERDICT]


def test_draws_on_which_judges_differ_count_against_a_majority(
    vae: genrobust.GenerativeModel,
) -> None:
    class Zero(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.eye(10)[torch.zeros(len(x), dtype=torch.long)]

    rule = Agreement((Judge("a", _Reads(), ""), Judge("b", Zero(), "")))
    votes = torch.tensor([[0, 0, 1], [0, 1, 1], [0, 1, 0.0]])
    look = Scorer(rule, vae, 0)
    verdict = look.verdict(votes.view(3, 3, 1, 1, 1), sources_of(range(3)))
    assert verdict.tolist() == [0, NO_VERDICT, NO_VERDICT]


def test_of_no_sources_nothing_is_drawn_and_nothing_said(vae: genrobust.GenerativeModel) -> None:
    """As of a shard in which no source is eligible."""
    drawn = adapt(vae.module, deploy=lambda x: vae.reconstruct(x), draws=3)
    look = Scorer(Agreement((Judge("a", _Reads(), ""),)), drawn, 0)
    images = look.reconstruct(torch.zeros(0, 1, 32, 32), ())
    assert look.verdict(images, sources_of(())).shape == (0,)


def drawn_digits(count: int) -> Batch:
    images, ids = genrobust.load_images("digits"), tuple(range(count))
    judge = genrobust.load_judge("digits", "lenet")
    return Batch(images.take(ids), ids, 0, images.labels_of(ids), judge=judge)


def test_one_path_with_other_draws_is_not_two(vae: genrobust.GenerativeModel) -> None:
    """Noise that changes what single draws show: a difference of draws is none of paths."""
    model, batch = noisy_inside(vae, draws=3, spread=0.5), drawn_digits(12)
    seen = guidance_of(model, batch)
    torch.manual_seed(0)
    single, other = (batch.judge.labels(model.reconstruct(batch.x)) for _ in range(2))
    assert not torch.equal(single, other)
    assert torch.equal(seen.surrogate_label, seen.deployed_label)


@pytest.mark.slow
def test_what_attacks_change_on_one_path_they_change_on_the_other() -> None:
    model = noisy_inside(genrobust.load_model("vae"), draws=3, spread=0.5)
    batch = drawn_digits(12)
    eligible = torch.ones(12, dtype=torch.bool)
    short = diagnose(model, batch, eligible, "linf", (1e-6, 0.06)).short
    assert not short.stopped.any()
    assert short.success[0].any()  # by noise alone, as there is no room for an attack
    assert torch.equal(short.success[0], short.again[0])


BUILD = """
import genrobust, torch
from principal import bright

def build():
    vae = bright()
    return genrobust.wrap(
        vae.module, deploy=lambda x: vae.reconstruct(x + 0.1 * torch.randn_like(x)), draws=8
    )

def blind():
    vae = bright()
    return genrobust.wrap(
        vae.module, encode=lambda x: vae.encode(x.detach()), differentiable=False
    )
"""


def test_the_check_says_how_a_deployment_was_understood(tmp_path: Path) -> None:
    place = tmp_path / "service.py"
    place.write_text(BUILD)
    for function, said in (
        ("build", ("a path of its own", "8 for each score", "ready")),
        ("blind", ("none, as declared", "ready")),
    ):
        done = CliRunner().invoke(app, ["check", f"{place}:{function}"])
        assert done.exit_code == 0, done.output
        for words in said:
            assert words in done.output


# What is refused


def test_a_random_model_that_declares_no_draws_is_told_to(vae: genrobust.GenerativeModel) -> None:
    for place in (noisy, noisy_inside):
        with pytest.raises(GenrobustError, match=r"another reconstruction each time.*draws=16"):
            place(vae, draws=1)


@pytest.mark.parametrize(
    "draw",
    [lambda: float(torch.rand(1)), np.random.random, random.random],
    ids=["torch", "numpy", "python"],
)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_model_whose_draws_are_alike_twice_is_told_that_it_is_random(
    draw: Callable[[], float], share: float, vae: genrobust.GenerativeModel
) -> None:
    def shifted(x: Tensor) -> Tensor:
        return vae.reconstruct(x.roll(1, 3) if draw() < share else x)

    for seed in range(3):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        with pytest.raises(GenrobustError, match=r"another reconstruction each time.*draws=16"):
            genrobust.wrap(vae.module, deploy=shifted)


@pytest.mark.parametrize("draws", [0, -3, 2.5])
def test_draws_are_a_count(draws: int, vae: genrobust.GenerativeModel) -> None:
    with pytest.raises(
        GenrobustError, match=rf"draws is {draws}; (it is 1, or more|give a whole number)"
    ):
        genrobust.wrap(vae.module, draws=draws)


def _fails(x: Tensor) -> Tensor:
    raise RuntimeError("the service is down")


@pytest.mark.parametrize(
    ("deploy", "words"),
    [
        (lambda x: x * torch.nan, r"deploy= gave NaN or infinite pixels"),
        (lambda x: x[:, :, :16], r"deploy= gave shape \(4, 1, 16, 32\).* or deploy="),
        (lambda x: x[:1], r"deploy= gave shape \(1, 1, 32, 32\)"),
        (lambda x: 2 * x + 1, r"reach from 1\.00 to .* where \[0, 1\] is allowed"),
        (lambda x: x + x.mean(), r"changes with the others in its batch"),
        (lambda x: {"picture": x}, r"returned a dict with keys \['picture'\]"),
        (_fails, r"the model's deploy failed .*RuntimeError: the service is down"),
    ],
)
def test_a_deployment_that_cannot_be_scored_is_refused(
    deploy: Callable[[Tensor], Tensor], words: str, vae: genrobust.GenerativeModel
) -> None:
    clamp = "mean" in words or "others" in words
    with pytest.raises(GenrobustError, match=words):
        genrobust.wrap(vae.module, deploy=deploy, clamp=clamp)


def test_a_deployment_works_in_the_modules_own_range(vae: genrobust.GenerativeModel) -> None:
    seen: list[float] = []

    def deploy(x: Tensor) -> Tensor:
        seen.append(float(x.min()))
        return -x.clamp(-1, 0)

    model = genrobust.wrap(
        vae.module,
        encode=lambda x: vae.encode((x + 1) / 2),
        decode=lambda z: 2 * vae.decode(z) - 1,
        value_range=(-1, 1),
        deploy=deploy,
    )
    x = probe_images((1, 32, 32))
    torch.testing.assert_close(model.reconstruct(x), (1 - (2 * x - 1).clamp(-1, 0)) / 2)
    assert min(seen) < -0.8


def test_a_model_without_gradients_is_wrapped_where_that_is_said(
    vae: genrobust.GenerativeModel,
) -> None:
    def encode(x: Tensor) -> object:
        return vae.encode(torch.from_numpy(x.detach().numpy().copy()))

    with pytest.raises(GenrobustError, match="no gradient reaches the image"):
        genrobust.wrap(vae.module, encode=encode)
    model = genrobust.wrap(vae.module, encode=encode, differentiable=False)
    x = genrobust.load_images("digits").take(range(2))
    found = genrobust.attack("latent", model, x, target=x.flip(0), steps=3)
    assert found.backwards.tolist() == [3, 3]


# The conformance suite


@cache
def of_three_draws(place: Callable[..., genrobust.GenerativeModel]) -> genrobust.GenerativeModel:
    """Made once, as no test of it changes it."""
    return place(bright(), draws=3)


@cache
def of_few_levels() -> genrobust.GenerativeModel:
    """Made once, too."""
    vae = bright()
    return genrobust.wrap(vae.module, deploy=lambda x: vae.reconstruct((63 * x).round() / 63))


class TestRandomDeployment(ModelConformance):
    @pytest.fixture(params=[noisy, noisy_inside])
    def build(self, request: pytest.FixtureRequest) -> Callable[[], genrobust.GenerativeModel]:
        return lambda: request.param(bright(), draws=3)

    @pytest.fixture
    def model(
        self, build: Callable[[], genrobust.GenerativeModel], request: pytest.FixtureRequest
    ) -> genrobust.GenerativeModel:
        return of_three_draws(request.node.callspec.params["build"])


class TestDeploymentOfItsOwn(ModelConformance):
    @pytest.fixture
    def build(self) -> Callable[[], genrobust.GenerativeModel]:
        return of_few_levels.__wrapped__

    @pytest.fixture
    def model(self) -> genrobust.GenerativeModel:
        return of_few_levels()


def test_draws_that_are_none_or_not_torchs_are_named(vae: genrobust.GenerativeModel) -> None:
    test = ModelConformance().test_a_random_one_draws_from_torchs_generators
    images = probe_images(vae.input_shape)
    with pytest.raises(AssertionError, match="leave draws= out"):
        test(adapt(vae.module, draws=2), images)
    own = torch.Generator().manual_seed(0)

    def deploy(x: Tensor) -> Tensor:
        return vae.reconstruct(x + 0.1 * torch.randn(x.shape, generator=own))

    with pytest.raises(AssertionError, match="torch's own generators"):
        test(adapt(vae.module, deploy=deploy, draws=2), images)
