"""Attacks: closed forms, independent implementations, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attack_cases import norms_of
from conftest import LinearBuilder
from torch import Tensor, nn

import genrobust
from genrobust.attacks import ATTACKS, Attack, make_attack
from genrobust.batch import Context
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.models.wrapping import adapt
from genrobust.norms import NORMS
from genrobust.optimizers import Minimum, Problem
from genrobust.posterior import Posterior
from genrobust.seeding import generator
from genrobust.threat import ThreatModel

COUNT = 5
QUICK: dict[str, dict[str, Any]] = {
    "noise": {},
    "latent": {"steps": 8},
    "output": {"steps": 8},
    "classifier": {"steps": 8},
    "thesis": {"steps": 8},
}


def digits(count: int) -> Tensor:
    return genrobust.load_images("digits").take(range(count))


def draw(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=generator(key))


@pytest.fixture
def judge() -> Judge:
    """An untrained linear classifier of 32x32 images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    return Judge("linear", module.eval().requires_grad_(False), "0")


# Closed forms


@pytest.mark.parametrize("norm", NORMS.names())
def test_the_latent_attack_moves_one_linear_latent_as_far_as_can_be(
    norm: str, linear_vae: LinearBuilder
) -> None:
    row = 0.1 * draw(1, 16, key="E")
    model = linear_vae(row, 0.1 * draw(16, 1, key="D"))
    x = 0.4 + 0.2 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
    found = genrobust.attack("latent", model, x, eps=0.2, norm=norm, steps=50)
    dual = row.abs().sum() if norm == "linf" else row.norm()
    torch.testing.assert_close(-found.loss, (0.2 * dual).expand(COUNT), rtol=0.01, atol=0)
    moved = ((found.x_adv - x).flatten(1) @ row[0]).abs()
    torch.testing.assert_close(moved, -found.loss, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS.names())
def test_the_targeted_latent_attack_goes_all_the_way_or_as_far_as_the_ball_lets_it(
    norm: str, linear_vae: LinearBuilder
) -> None:
    row = 0.1 * draw(1, 16, key="E")
    model = linear_vae(row, 0.1 * draw(16, 1, key="D"))
    x = torch.full((2, 1, 4, 4), 0.5)
    target = x + torch.tensor([0.05, 0.5]).view(2, 1, 1, 1) * row.sign().view(1, 1, 4, 4)
    found = genrobust.attack("latent", model, x, target=target, eps=0.1, norm=norm, steps=60)
    dual = row.abs().sum() if norm == "linf" else row.norm()
    gaps = torch.tensor([0.05, 0.5]) * row.abs().sum()
    reachable = 0.1 * dual
    expected = (gaps - reachable).clamp_min(0)
    torch.testing.assert_close(found.loss, expected, atol=0.01 * float(gaps[0]), rtol=0.01)


@pytest.mark.parametrize("norm", NORMS.names())
def test_the_output_attack_does_the_largest_damage_to_a_linear_model(
    norm: str, linear_vae: LinearBuilder
) -> None:
    row, column = 0.1 * draw(1, 16, key="E"), 0.5 * draw(16, 1, key="D")
    model = linear_vae(row, column)
    x = 0.4 + 0.2 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
    found = genrobust.attack("output", model, x, eps=0.2, norm=norm, steps=50)
    dual = row.abs().sum() if norm == "linf" else row.norm()
    worst = 0.2 * dual * column.norm()
    torch.testing.assert_close(-found.loss, worst.expand(COUNT), rtol=0.01, atol=0)


@pytest.mark.parametrize("norm", NORMS.names())
def test_the_damage_attack_brings_a_linear_model_as_far_from_the_source_as_it_goes(
    norm: str, linear_vae: LinearBuilder
) -> None:
    """From the source, not from its clean reconstruction, and so on the side where that lies."""
    row, column = 0.1 * draw(1, 16, key="E"), 0.5 * draw(16, 1, key="D")
    model = linear_vae(row, column)
    x = 0.4 + 0.2 * torch.rand(COUNT, 1, 4, 4, generator=generator("x"))
    found = genrobust.attack("damage", model, x, eps=0.2, norm=norm, steps=50)
    off = (model.reconstruct(x) - x).flatten(1)
    moved = 0.2 * (row.abs().sum() if norm == "linf" else row.norm()) * column.T
    worst = torch.maximum((off + moved).norm(dim=1), (off - moved).norm(dim=1))
    torch.testing.assert_close(-found.loss, worst, rtol=0.01, atol=0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_damage_attack_starts_where_a_gate_on_noise_is_open(norm: str) -> None:
    """Ten times the change of all pixels together is shown, but of a rough image nothing."""

    def picture(x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1).view(-1, 1, 1, 1)
        rough = (x - mean).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return 0.5 + (1e4 * (0.01 - rough)).sigmoid() * 10 * (mean - 0.5) + 1e-3 * (x - 0.5)

    model = genrobust.wrap(
        nn.Identity(), encode=nn.Identity(), decode=picture, input_shape=(1, 8, 8), clamp=True
    )
    x = torch.full((COUNT, 1, 8, 8), 0.5)
    found = genrobust.attack("damage", model, x, eps=8 * 0.02 if norm == "l2" else 0.02, norm=norm)
    whole = torch.full((COUNT,), 8 * 0.02 * 10.001)
    torch.testing.assert_close(-found.loss, whole, rtol=0.02, atol=0)


def test_noise_is_the_keyed_start_of_the_ball_and_costs_nothing(
    tiny_vae: genrobust.GenerativeModel,
) -> None:
    x = digits(COUNT)
    found = genrobust.attack("noise", tiny_vae, x, eps=0.1, seed=4)
    expected = ThreatModel("linf", 0.1).random_start(x, range(COUNT), seed=4)
    assert torch.equal(found.x_adv, expected)
    assert found.forwards.tolist() == found.backwards.tolist() == [0] * COUNT


# Against other implementations


@dataclass(frozen=True)
class Trained:
    """A classifier of digits, an autoencoder that gives every image back, and test images."""

    module: nn.Module
    judge: Judge
    model: genrobust.GenerativeModel
    x: Tensor
    labels: Tensor

    def broken(self, x_adv: Tensor, eps: float) -> Tensor:
        ThreatModel("linf", eps).check(x_adv, self.x, "the attack")
        return self.module(x_adv).argmax(1) != self.labels


class Identity(nn.Module):
    input_shape = (1, 32, 32)

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.view(-1, 1, 32, 32)


def train(build: Callable[[], nn.Module]) -> Trained:
    train, test = (genrobust.load_images("digits", split) for split in ("train", "test"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build()
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    x = train.take(range(len(train)))
    for step in range(60):
        ids = torch.randint(len(x), (128,), generator=generator("batch", step))
        optimizer.zero_grad()
        F.cross_entropy(module(x[ids]), train.labels[ids]).backward()
        optimizer.step()
    module.eval().requires_grad_(False)
    x, labels = test.take(range(60)), test.labels[:60]
    right = module(x).argmax(1) == labels
    assert right.sum() > 45
    judge = Judge("trained here", module, "0")
    return Trained(module, judge, genrobust.wrap(Identity()), x[right], labels[right])


@pytest.fixture(scope="module")
def softmax() -> Trained:
    return train(lambda: nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)))


@pytest.fixture(scope="module")
def perceptron() -> Trained:
    return train(
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(1024, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
            nn.Linear(32, 10),
        )
    )  # fmt: skip


def ours(setting: Trained, eps: float, **settings: Any) -> Tensor:
    found = genrobust.attack(
        "classifier",
        setting.model,
        setting.x,
        labels=setting.labels,
        judge=setting.judge,
        eps=eps,
        **settings,
    )
    broken = setting.broken(found.x_adv, eps)
    assert found.success is not None
    assert torch.equal(found.success, broken)
    return broken


@pytest.mark.parametrize("eps", [0.02, 0.05])
def test_a_softmax_classifier_falls_exactly_where_the_closed_form_says(
    eps: float, softmax: Trained
) -> None:
    weights, bias = (p.double() for p in softmax.module.parameters())
    x, labels = softmax.x.flatten(1).double(), softmax.labels
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    worst = torch.full((len(x), 10), torch.inf, dtype=torch.float64)
    for other in range(10):
        slope = weights[labels] - weights[other]  # of the margin over that class
        corner = torch.where(slope > 0, low, high)
        worst[:, other] = (slope * corner).sum(1) + bias[labels] - bias[other]
    worst[torch.arange(len(x)), labels] = torch.inf
    breakable = worst.amin(1) < 0
    assert 0 < int(breakable.sum()) < len(x)
    broken = ours(softmax, eps, steps=60, confidence=0.0)
    assert not (broken & ~breakable).any()
    assert int(broken.sum()) >= int(breakable.sum()) - 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("setting", ["softmax", "perceptron"])
def test_the_classifier_attack_breaks_as_many_as_foolboxs_pgd(
    setting: str, request: pytest.FixtureRequest
) -> None:
    import foolbox

    trained: Trained = request.getfixturevalue(setting)
    eps = 0.03
    wrapped = foolbox.PyTorchModel(trained.module, bounds=(0, 1), device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attack = foolbox.attacks.LinfPGD(steps=40)
        _, x_adv, _ = attack(wrapped, trained.x, trained.labels, epsilons=eps)
    theirs = trained.broken(x_adv, eps).sum()
    assert 0 < theirs < len(trained.x)
    assert ours(trained, eps, steps=40).sum() >= theirs - 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("setting", ["softmax", "perceptron"])
def test_the_classifier_attack_breaks_as_many_as_arts_pgd(
    setting: str, request: pytest.FixtureRequest
) -> None:
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    trained: Trained = request.getfixturevalue(setting)
    eps = 0.03
    estimator = PyTorchClassifier(
        trained.module,
        loss=nn.CrossEntropyLoss(),
        input_shape=(1, 32, 32),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = ProjectedGradientDescent(
        estimator, eps=eps, eps_step=eps / 10, max_iter=40, batch_size=64, verbose=False
    )
    x_adv = torch.from_numpy(attack.generate(trained.x.numpy(), trained.labels.numpy()))
    theirs = trained.broken(x_adv, eps).sum()
    assert 0 < theirs < len(trained.x)
    assert ours(trained, eps, steps=40).sum() >= theirs - 1


def test_the_targeted_classifier_attack_reaches_its_class(softmax: Trained) -> None:
    goal = (softmax.labels + 1) % 10
    found = genrobust.attack(
        "classifier", softmax.model, softmax.x, target_labels=goal, judge=softmax.judge,
        eps=0.5, steps=30,
    )  # fmt: skip
    assert torch.equal(softmax.module(found.x_adv).argmax(1), goal)
    assert found.success is not None
    assert found.success.all()
    assert (found.loss <= -4).all()  # the confidence asked for by default


def test_a_confident_attack_stops_early_where_it_is_done(softmax: Trained) -> None:
    arguments: dict[str, Any] = {"labels": softmax.labels, "judge": softmax.judge}
    easy = genrobust.attack("classifier", softmax.model, softmax.x, eps=0.5, steps=50, **arguments)
    hard = genrobust.attack(
        "classifier", softmax.model, softmax.x, eps=0.001, steps=50, restarts=2, **arguments
    )
    assert (easy.forwards < 25).all()
    assert (hard.forwards == 100).all()


# Properties of every attack in QUICK


def run(
    name: str, model: genrobust.GenerativeModel, judge: Judge, x: Tensor, **more: Any
) -> genrobust.AttackResult:
    given: dict[str, Any] = {"target": x.flip(0)}
    if name == "classifier":
        given = {"labels": torch.arange(len(x)) % 10, "judge": judge}
    return genrobust.attack(name, model, x, **{**QUICK[name], **given, **more})


@pytest.mark.parametrize("name", QUICK)
def test_the_result_is_inside_the_threat_model_and_has_an_entry_a_source(
    name: str, tiny_vae: genrobust.GenerativeModel, judge: Judge
) -> None:
    x = digits(COUNT)
    for norm in norms_of(name):
        found = run(name, tiny_vae, judge, x, norm=norm, eps=0.07)
        change = (found.x_adv - x).flatten(1).numpy()
        order = np.inf if norm == "linf" else 2
        assert (np.linalg.norm(change, ord=order, axis=1) <= 0.07 + 1e-5).all()
        assert found.x_adv.shape == x.shape
        assert float(found.x_adv.min()) >= 0
        assert float(found.x_adv.max()) <= 1
        for entries in (found.loss, found.success, found.forwards, found.backwards):
            assert entries is not None
            assert entries.shape == (COUNT,)


@pytest.mark.parametrize("name", QUICK)
def test_the_same_seed_gives_the_same_result_and_another_seed_another(
    name: str, tiny_vae: genrobust.GenerativeModel, judge: Judge
) -> None:
    x = digits(COUNT)
    torch.manual_seed(1)
    first = run(name, tiny_vae, judge, x, seed=1)
    torch.manual_seed(2)
    assert torch.equal(run(name, tiny_vae, judge, x, seed=1).x_adv, first.x_adv)
    assert not torch.equal(run(name, tiny_vae, judge, x, seed=2).x_adv, first.x_adv)


@pytest.mark.parametrize("name", QUICK)
def test_a_sample_gets_the_same_result_in_any_batch(name: str, judge: Judge) -> None:
    network = initialised(NetworkSpec(gaussian=4, categorical=(5,)), seed=3).double()
    model = adapt(network)
    exact = Judge("linear", judge.module.double(), "0")
    x = digits(COUNT).double()
    target, labels, ids = x.flip(0), torch.arange(COUNT), (4, 8, 15, 16, 23)

    def part(chosen: list[int]) -> genrobust.AttackResult:
        given: dict[str, Any] = {"target": target[chosen]}
        if name == "classifier":
            given = {"labels": labels[chosen], "judge": exact}
        return genrobust.attack(
            name, model, x[chosen], sample_ids=[ids[i] for i in chosen], **QUICK[name], **given
        )

    whole = part(list(range(COUNT)))
    for chosen in ([3, 0], [2], [4, 1]):
        found = part(chosen)
        torch.testing.assert_close(found.x_adv, whole.x_adv[chosen], atol=1e-7, rtol=0)
        torch.testing.assert_close(found.loss, whole.loss[chosen], atol=1e-7, rtol=1e-7)
        assert torch.equal(found.forwards, whole.forwards[chosen])


@pytest.mark.parametrize("name", QUICK)
def test_eps_0_gives_the_sources_back(
    name: str, tiny_vae: genrobust.GenerativeModel, judge: Judge
) -> None:
    x = digits(COUNT)
    assert torch.equal(run(name, tiny_vae, judge, x, eps=0.0).x_adv, x)


@pytest.mark.parametrize("name", QUICK)
def test_no_gradient_reaches_weights_or_the_callers_images(name: str, judge: Judge) -> None:
    network = initialised(NetworkSpec(gaussian=4, categorical=(5,)), seed=3)
    model = genrobust.GenerativeModel(
        "unfrozen", network, network.input_shape, network.encode, network.decode
    )
    loose = Judge("unfrozen", judge.module.requires_grad_(True), "0")
    x = digits(COUNT)
    before = x.clone()
    found = run(name, model, loose, x)
    assert all(p.grad is None for p in [*network.parameters(), *loose.module.parameters()])
    assert torch.equal(x, before)
    assert not x.requires_grad
    for given_back in (found.x_adv, found.loss):
        assert not given_back.requires_grad


@pytest.mark.parametrize("name", ["latent", "output", "thesis", "classifier"])
def test_a_search_does_better_than_noise(
    name: str, tiny_vae: genrobust.GenerativeModel, judge: Judge
) -> None:
    x = digits(COUNT)
    settings = {"steps": 30} | ({"learning_rate": 0.01} if name == "thesis" else {})
    found, idle = (
        run(name, tiny_vae, judge, x, eps=0.1, **settings | s) for s in ({}, {"steps": 1})
    )
    assert (found.loss < idle.loss).all()


def test_more_restarts_never_do_worse(tiny_vae: genrobust.GenerativeModel, judge: Judge) -> None:
    x = digits(COUNT)
    once, thrice = (run("output", tiny_vae, judge, x, restarts=n) for n in (1, 3))
    assert (thrice.loss <= once.loss).all()
    assert (thrice.loss < once.loss).any()  # each restart starts elsewhere
    assert thrice.forwards.tolist() == (3 * once.forwards).tolist()


def test_the_loss_is_that_of_the_returned_image(
    tiny_vae: genrobust.GenerativeModel, judge: Judge
) -> None:
    x = digits(COUNT)
    found = run("latent", tiny_vae, judge, x)
    codes = tiny_vae.encode(found.x_adv).vector() - tiny_vae.encode(x.flip(0)).vector()
    torch.testing.assert_close(found.loss, codes.norm(dim=1), atol=1e-5, rtol=1e-4)
    found = run("output", tiny_vae, judge, x, target=None, surrogate="straight-through")
    moved = tiny_vae.reconstruct(found.x_adv) - tiny_vae.reconstruct(x)
    torch.testing.assert_close(-found.loss, moved.flatten(1).norm(dim=1), atol=1e-4, rtol=1e-4)


def test_the_thesis_loss_adds_the_weighted_length_of_the_change(
    tiny_vae: genrobust.GenerativeModel, judge: Judge
) -> None:
    x = digits(COUNT)
    found = run("thesis", tiny_vae, judge, x, distance_weight=2.0)
    codes = tiny_vae.encode(found.x_adv).vector() - tiny_vae.encode(x.flip(0)).vector()
    expected = 2 * (found.x_adv - x).flatten(1).norm(dim=1) + codes.norm(dim=1)
    torch.testing.assert_close(found.loss, expected, atol=1e-5, rtol=1e-4)
    assert found.backwards.tolist() == [8] * COUNT


def test_without_a_judge_success_is_being_nearer_to_the_target(
    linear_vae: LinearBuilder, tiny_vae: genrobust.GenerativeModel
) -> None:
    model = linear_vae(torch.eye(16), 0.4 * torch.eye(16))
    x, target = torch.full((2, 1, 4, 4), 0.2), torch.full((2, 1, 4, 4), 0.8)
    for eps, expected in ((0.25, False), (0.35, True)):
        found = genrobust.attack("output", model, x, target=target, eps=eps, steps=30)
        assert found.success is not None
        assert found.success.tolist() == [expected, expected]
    assert genrobust.attack("output", tiny_vae, digits(2), steps=2).success is None


# What is refused


def test_a_result_is_kept_in_a_file_without_the_model(
    tiny_vae: genrobust.GenerativeModel, tmp_path: Path
) -> None:
    x = torch.rand(2, *tiny_vae.input_shape, generator=generator("kept"))
    found = genrobust.attack("noise", tiny_vae, x, eps=0.1)
    torch.save(found, tmp_path / "found.pt")
    again = torch.load(tmp_path / "found.pt", weights_only=False)
    assert torch.equal(again.x_adv, found.x_adv)
    assert torch.equal(again.loss, found.loss)
    with pytest.raises(GenrobustError, match=r"take what genrobust\.attack returns"):
        again.show()
    assert found.show() is not None


def test_an_unknown_attack_suggests_the_nearest(tiny_vae: genrobust.GenerativeModel) -> None:
    with pytest.raises(GenrobustError, match="unknown attack 'latnt'; did you mean 'latent'"):
        genrobust.attack("latnt", tiny_vae, digits(1))


def test_an_unknown_setting_suggests_the_nearest(tiny_vae: genrobust.GenerativeModel) -> None:
    with pytest.raises(GenrobustError, match=r"no setting 'step'; did you mean 'steps'\?"):
        genrobust.attack("latent", tiny_vae, digits(1), step=3)
    with pytest.raises(GenrobustError, match="'noise' has no setting 'steps'; Settings: none"):
        genrobust.attack("noise", tiny_vae, digits(1), steps=3)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("thesis", {}, "'thesis' is targeted only; give it a target"),
        ("thesis", {"target": True, "norm": "l2"}, "'thesis' works under linf, not l2"),
        ("classifier", {"labels": True}, "'classifier' needs a judge"),
        ("classifier", {"judge": True}, "needs the sources' labels"),
        ("classifier", {"judge": True, "target": True}, "needs the targets' labels"),
        ("latent", {"target_labels": True}, "'latent' needs target images"),
        ("latent", {"norm": "l7"}, "unknown norm 'l7'"),
        ("latent", {"eps": -1.0}, "eps is -1"),
    ],
)
def test_what_an_attack_cannot_do_is_refused(
    name: str,
    given: dict[str, Any],
    words: str,
    tiny_vae: genrobust.GenerativeModel,
    judge: Judge,
) -> None:
    x = digits(2)
    stand_ins = {
        "target": x.flip(0),
        "labels": torch.zeros(2, dtype=torch.long),
        "target_labels": torch.ones(2, dtype=torch.long),
        "judge": judge,
    }
    filled = {key: stand_ins[key] if value is True else value for key, value in given.items()}
    with pytest.raises(GenrobustError, match=words):
        genrobust.attack(name, tiny_vae, x, **filled)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: 255 * x, r"pixels from 0 to 2\d\d.*; \[0, 1\] is allowed"),
        (lambda x: x - 0.1, r"pixels from -0.1 to 0.8"),
        (lambda x: x * torch.nan, "NaN or infinite pixels"),
        (lambda x: (255 * x).byte(), "torch.uint8; pass floats"),
        (lambda x: x.long(), "torch.int64; pass floats"),
        (lambda x: x[:, 0], r"has shape \(2, 32, 32\); the model takes \(B, 1, 32, 32\)"),
        (lambda x: x[..., :28, :28], r"has shape \(2, 1, 28, 28\)"),
        (lambda x: x.expand(-1, 3, -1, -1), r"has shape \(2, 3, 32, 32\)"),
        (lambda x: x[:0], "no images"),
    ],
)
@pytest.mark.parametrize("what", ["x", "target"])
def test_images_that_are_none_are_refused(
    what: str,
    change: Callable[[Tensor], Tensor],
    words: str,
    tiny_vae: genrobust.GenerativeModel,
) -> None:
    given = {"x": digits(2), "target": digits(2)}
    given[what] = change(given[what])
    with pytest.raises(GenrobustError, match=f"^{what} .*{words}"):
        genrobust.attack("latent", tiny_vae, given["x"], target=given["target"], steps=1)


@pytest.mark.parametrize("what", ["target", "labels", "target_labels", "sample_ids"])
def test_one_entry_a_source_is_asked_for(what: str, tiny_vae: genrobust.GenerativeModel) -> None:
    given = digits(3) if what == "target" else torch.zeros(3, dtype=torch.long)
    with pytest.raises(GenrobustError, match=f"{what} has 3 entries for 2 images"):
        genrobust.attack("latent", tiny_vae, digits(2), **{what: given})


# Attacks of others


@pytest.fixture
def registered() -> Iterator[Callable[[Callable[[Tensor, ThreatModel], Tensor]], str]]:
    """Registers an attack that returns what a function makes of the sources."""
    name = "attack-of-this-test"

    def register(change: Callable[[Tensor, ThreatModel], Tensor]) -> str:
        @ATTACKS.register(name)
        @dataclass(frozen=True)
        class Custom(Attack):
            paper = "none"
            norms = ("any",)

            def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
                problem = Problem.of(lambda x, context: x.flatten(1).sum(1), context)
                return problem, Minimum(problem, change(context.batch.x, threat))

        Custom.name = name
        return name

    yield register
    ATTACKS._registered.pop(name, None)


def test_a_registered_attack_runs_by_its_name(
    registered: Callable[..., str], tiny_vae: genrobust.GenerativeModel
) -> None:
    x = digits(2)
    name = registered(lambda x, threat: threat.project(x + 0.3, x))
    found = genrobust.attack(name, tiny_vae, x, eps=0.1)
    torch.testing.assert_close(found.x_adv, (x + 0.1).clamp(0, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, threat: (x + 0.101).clamp(0, 1), r"moved an image by 0\.101"),
        (lambda x, threat: x - 0.05, "gave pixels from -0.05"),
        (lambda x, threat: x * torch.nan, "gave NaN"),
    ],
)
def test_an_attack_that_leaves_the_threat_model_is_caught(
    change: Callable[[Tensor, ThreatModel], Tensor],
    words: str,
    registered: Callable[..., str],
    tiny_vae: genrobust.GenerativeModel,
) -> None:
    name = registered(change)
    with pytest.raises(GenrobustError, match=f"the attack '{name}' {words}"):
        genrobust.attack(name, tiny_vae, digits(2), eps=0.1)


def test_the_encoder_runs_once_for_each_gradient_that_is_counted(
    tiny_vae: genrobust.GenerativeModel,
) -> None:
    seen: list[tuple[int, bool]] = []

    def encoder(x: Tensor) -> Posterior:
        seen.append((len(x), x.requires_grad))
        return tiny_vae.encode(x)

    model = genrobust.GenerativeModel(
        "spied", tiny_vae.module, tiny_vae.input_shape, encoder, tiny_vae.decode
    )
    x = digits(COUNT)
    found = genrobust.attack("latent", model, x, target=x.flip(0), steps=12)
    assert found.backwards.tolist() == [12] * COUNT
    with_gradient = [count for count, needs in seen if needs]
    assert with_gradient == [COUNT] * 12
    assert len(seen) - 12 <= 4  # targets, and the final look at the deployed path


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("latent", {"steps": "10"}, "valid integer"),
        ("latent", {"steps": 1.5}, "valid integer"),
        ("latent", {"steps": 0}, "1 or more"),
        ("latent", {"restarts": -1}, "1 or more"),
        ("bim", {"steps": -1}, "0 or more"),
        ("classifier", {"confidence": float("nan")}, "must be a finite number"),
        ("classifier", {"surrogate": "sofmax"}, "softmax"),
        ("thesis", {"as_published": "yes"}, "valid boolean"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused(
    name: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(GenrobustError, match=message):
        make_attack(name, settings)


def test_whole_numbers_do_for_real_ones() -> None:
    assert make_attack("classifier", {"confidence": 2}).settings()["confidence"] == 2
    assert make_attack("bim", {"steps": 0}).settings()["steps"] == 0
    assert make_attack("kuzina", {"steps": None}).settings()["steps"] is None
