"""The conformance suite on what genrobust ships, and on things that are wrong on purpose."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from attack_cases import Coarse
from linear_problems import linear_judge
from torch import Tensor, nn

import genrobust
from genrobust.attacks import Attack, make_attack
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.models.inputs import probe_images
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.models.wrapping import adapt
from genrobust.optimizers import Minimum, Problem
from genrobust.posterior import Categorical, Point, Posterior
from genrobust.testing import AttackConformance, ModelConformance
from genrobust.threat import ThreatModel

OURS: dict[str, dict[str, Any]] = {
    "noise": {},
    "latent": {"steps": 4},
    "output": {"steps": 4},
    "classifier": {"steps": 4},
    "thesis": {"steps": 4},
    "code-switch": {"steps": 4, "categories": 2},
    "multi-target": {"steps": 3, "classes": 2},
    "nearest": {"steps": 3, "classes": 2},
    "neighbours": {"steps": 4, "classes": 2},
    "square": {"queries": 8},
    "stand-in": {"steps": 3, "rounds": 1, "blocks": 16},
    "fmn": {"steps": 3, "classes": 1, "categories": 1},
}

BRIDGED: dict[str, dict[str, Any]] = {
    "foolbox:LinfPGD": {"steps": 3},
    "foolbox:L2CarliniWagnerAttack": {"steps": 3, "binary_search_steps": 2},
    "foolbox:LinfDeepFoolAttack": {"steps": 2},
    "art:ProjectedGradientDescent": {"max_iter": 3},
    "art:DeepFool": {"max_iter": 2},
    "art:SquareAttack": {"max_iter": 3},
}


class OfCoarse(AttackConformance):
    """On a model and a judge that take little time."""

    @pytest.fixture
    def model(self) -> genrobust.GenerativeModel:
        return adapt(Coarse().double())

    @pytest.fixture
    def judge(self) -> Judge:
        judge = linear_judge(1024)
        judge.module.double()
        return judge


class TestOurAttacks(OfCoarse):
    @pytest.fixture(params=OURS)
    def attack(self, request: pytest.FixtureRequest) -> Attack:
        return make_attack(request.param, OURS[request.param])


class TestStandard(AttackConformance):
    @pytest.fixture
    def attack(self, monkeypatch: pytest.MonkeyPatch) -> Attack:
        """The ensemble with a member of each kind and few steps."""
        members = {
            "untargeted": (("noise", {}), ("classifier", {"steps": 2}), ("square", {"queries": 3})),
            "targeted": (("latent", {"steps": 2}), ("output", {"steps": 2})),
        }
        monkeypatch.setattr("genrobust.attacks.standard.MEMBERS", members)
        return make_attack("standard")


@pytest.mark.filterwarnings("ignore")
class TestBridges(OfCoarse):
    couples_samples = True

    @pytest.fixture(params=BRIDGED)
    def attack(self, request: pytest.FixtureRequest) -> Attack:
        return make_attack(request.param, BRIDGED[request.param])


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("shape", [(3, 2, 40), (3, 40, 2)])
def test_images_may_be_wider_than_high_and_higher_than_wide(
    name: str, shape: tuple[int, int, int]
) -> None:
    x, references = probe_images(shape, 2), probe_images(shape, 20)
    pixels = x[0].numel()
    model = adapt(
        nn.Identity(),
        encode=lambda x: Posterior((Point(x.flatten(1)), Categorical(x.flatten(1)[:, :5]))),
        decode=lambda z: z[:, :pixels].reshape(-1, *shape) + z[:, pixels:].mean(),
        input_shape=shape,
    )
    judge = linear_judge(pixels)
    labels = judge.module(x).argmax(1)
    known = references, torch.arange(20) % 10
    batch = Batch(x, (0, 1), labels=labels, judge=judge, references=known)
    aimed = replace(batch, target_x=x.flip(0), target_labels=(labels + 1) % 10)
    goals = {"targeted": aimed, "untargeted": batch}
    attack, threat = make_attack(name, OURS[name]), ThreatModel("linf", 0.1)
    for goal in attack.goals:
        threat.check(attack(model, goals[goal], threat).x_adv, x, name)


#: No test of the conformance suite changes the model that it is given.
loaded_once = cache(genrobust.load_model)


class TestShippedModels(ModelConformance):
    @pytest.fixture(params=["vae", "vae-wd", "betavae", "betavae-capacity", "jointvae"])
    def build(self, request: pytest.FixtureRequest) -> Callable[[], genrobust.GenerativeModel]:
        return lambda: genrobust.load_model(request.param)

    @pytest.fixture
    def model(
        self, build: Callable[[], genrobust.GenerativeModel], request: pytest.FixtureRequest
    ) -> genrobust.GenerativeModel:
        return loaded_once(request.node.callspec.params["build"])


# What is wrong on purpose


@dataclass(frozen=True)
class Wrong(Attack):
    """An attack with a fault that its subclass says."""

    name = "wrong"
    paper = "none"
    norms = ("any",)

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        problem = Problem.of(lambda x, context: x.flatten(1).sum(1), context)
        x_adv = threat.project(self.change(context, problem), context.batch.x)
        best = Minimum(problem, x_adv)
        best.replace(problem.index, x_adv, problem.loss(x_adv))
        return problem, best

    def change(self, context: Context, problem: Problem) -> Tensor:
        raise NotImplementedError


class Restless(Wrong):
    def change(self, context: Context, problem: Problem) -> Tensor:
        return torch.rand_like(context.batch.x)


class Seeding(Wrong):
    def change(self, context: Context, problem: Problem) -> Tensor:
        torch.manual_seed(0)
        return context.batch.x


class Shuffling(Wrong):
    def change(self, context: Context, problem: Problem) -> Tensor:
        random.shuffle([1, 2])
        return context.batch.x


class Averaging(Wrong):
    def change(self, context: Context, problem: Problem) -> Tensor:
        return context.batch.x.mean(0, keepdim=True).expand_as(context.batch.x)


class Uncounted(Wrong):
    def change(self, context: Context, problem: Problem) -> Tensor:
        for _ in range(30):
            context.model.reconstruct(context.batch.x)
        return context.batch.x


class Grasping(Wrong):
    def change(self, context: Context, problem: Problem) -> Tensor:
        x = context.batch.x.clone().requires_grad_()
        context.model.reconstruct(x).sum().backward()
        return x.detach()


class Lost(Wrong):
    def change(self, context: Context, problem: Problem) -> Tensor:
        problem.context.batch.x.add_(0.1)
        return context.batch.x


@pytest.mark.parametrize(
    ("kind", "test", "words"),
    [
        (Restless, "test_the_same_seed_gives_the_same_result", "same batch and seed"),
        (Restless, "test_the_global_generators_are_left_alone", "torch's global generator"),
        (Seeding, "test_the_global_generators_are_left_alone", "torch's global generator"),
        (Shuffling, "test_the_global_generators_are_left_alone", "Python's global generator"),
        (Averaging, "test_a_sample_gets_the_same_result_in_any_batch", "must not depend"),
        (Uncounted, "test_passes_through_the_model_are_counted", "went through the model"),
        (
            Grasping,
            "test_model_judge_and_sources_are_left_as_they_were",
            "no gradient must be kept",
        ),
        (Lost, "test_model_judge_and_sources_are_left_as_they_were", "changed its sources"),
    ],
)
def test_a_fault_of_an_attack_is_found_and_named(
    kind: type[Wrong], test: str, words: str, tiny_vae: genrobust.GenerativeModel
) -> None:
    images, judge = genrobust.load_images("digits"), genrobust.load_judge("digits", "lenet")
    judge = Judge("a copy", copy.deepcopy(judge.module), "")
    x, labels = images.take(range(4)), images.labels[:4]
    references = images.take(range(4, 8)), images.labels[4:8]
    batch = Batch(x, (4, 8, 15, 16), 0, labels, x.flip(0), labels.flip(0), judge, references)
    given = {"attack": kind(), "model": tiny_vae, "judge": judge, "batch": batch}
    method = getattr(AttackConformance(), test)
    torch.manual_seed(0)  # as an attack that seeds leaves it
    with pytest.raises((AssertionError, GenrobustError), match=words):
        method(**{name: given[name] for name in inspect.signature(method).parameters})


def test_an_attack_under_no_known_norm_is_named() -> None:
    class Unmeasured(Wrong):
        norms: ClassVar[Any] = ("l7",)

    with pytest.raises(AssertionError, match="norms must be among"):
        AttackConformance().test_it_says_what_it_is(Unmeasured())


@pytest.mark.parametrize(
    ("fault", "test", "words"),
    [
        ("training", "test_it_is_frozen_and_stays_as_it_is", "must be in eval mode"),
        ("unfrozen", "test_it_is_frozen_and_stays_as_it_is", "must be frozen"),
        ("noisy", "test_it_draws_nothing", "must draw no random numbers"),
        ("mixing", "test_images_do_not_depend_on_each_other", "must not depend on the others"),
    ],
)
def test_a_fault_of_a_model_is_found_and_named(fault: str, test: str, words: str) -> None:
    model = sound = adapt(initialised(NetworkSpec(gaussian=4), seed=1))
    if fault == "training":
        model.module.train()
    elif fault == "unfrozen":
        model.module.requires_grad_(True)
    elif fault == "noisy":
        model = replace(model, decoder=lambda z: sound.decode(z + torch.randn_like(z)))
    else:
        model = replace(model, decoder=lambda z: sound.decode(z) / len(z))
    with pytest.raises(AssertionError, match=words):
        getattr(ModelConformance(), test)(model, probe_images(model.input_shape))


def test_a_model_of_other_weights_each_time_is_named() -> None:
    seeds = iter(range(9))

    def build() -> genrobust.GenerativeModel:
        return adapt(initialised(NetworkSpec(gaussian=4), seed=next(seeds)))

    with pytest.raises(AssertionError, match="must have one fingerprint"):
        ModelConformance().test_its_fingerprint_is_that_of_its_weights(build)
