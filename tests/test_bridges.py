"""Attacks of foolbox and ART: as strong as called directly, and inside our contract."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.attacks import ATTACKS, bridges, make_attack
from genrobust.attacks.bridges import call_seed
from genrobust.batch import Batch
from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.judges import Judge, load_judge
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.norms import NORMS
from genrobust.suites import Suite
from genrobust.threat import ThreatModel

pytestmark = pytest.mark.filterwarnings("ignore:::foolbox", "ignore:::art")

COUNT = 6
EPS = 0.2


@dataclass(frozen=True)
class Setting:
    model: genrobust.GenerativeModel
    judge: Judge
    x: Tensor
    labels: Tensor

    def attack(self, name: str, **given: Any) -> genrobust.AttackResult:
        given = {"labels": self.labels, "judge": self.judge, "eps": EPS, **given}
        return genrobust.attack(name, self.model, self.x, **given)

    def logits(self, x: Tensor) -> Tensor:
        return self.judge.logits(self.model.reconstruct(x))


@pytest.fixture(scope="module")
def digits() -> Setting:
    images = genrobust.load_images("digits")
    model, judge = genrobust.load_model("vae"), load_judge("digits", "lenet")
    return Setting(model, judge, images.take(range(COUNT)), images.labels[:COUNT])


class Whole(nn.Module):
    """Model and judge as a user of those libraries would write them down."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.setting.logits(x)


def seeded(setting: Setting, seed: int) -> None:
    number = call_seed(Batch(setting.x, tuple(range(COUNT)), seed))
    torch.manual_seed(number)
    np.random.seed(number)


# As strong as called directly


def test_foolboxs_pgd_gives_what_it_gives_when_called_directly(digits: Setting) -> None:
    import foolbox

    found = digits.attack("foolbox:LinfPGD", steps=20, seed=3)
    wrapped = foolbox.PyTorchModel(Whole(digits), bounds=(0, 1), device="cpu")
    with torch.random.fork_rng(devices=[]):
        seeded(digits, 3)
        attack = foolbox.attacks.LinfPGD(steps=20)
        _, expected, broken = attack(wrapped, digits.x, digits.labels, epsilons=EPS)
    torch.testing.assert_close(found.x_adv, expected, atol=1e-6, rtol=0)
    assert found.success is not None
    assert torch.equal(found.success, broken)
    assert found.success.any()
    # 20 steps, a look at the clean images and one at the result by foolbox; one look by us
    assert found.backwards.tolist() == [20] * COUNT
    assert found.forwards.tolist() == [22] * COUNT


@pytest.mark.parametrize("name", ["ProjectedGradientDescentPyTorch", "SquareAttack"])
def test_arts_attacks_give_what_they_give_when_called_directly(name: str, digits: Setting) -> None:
    import random

    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    iterations = {"max_iter": 15, "batch_size": 8}
    step: dict[str, Any] = {"eps_step": EPS / 5} if "Gradient" in name else {}
    found = digits.attack(f"art:{name}", **iterations, **step)
    classifier = PyTorchClassifier(
        Whole(digits), nn.CrossEntropyLoss(), (1, 32, 32), 10, clip_values=(0.0, 1.0),
        device_type="cpu",
    )  # fmt: skip
    attack = getattr(evasion, name)(classifier, eps=EPS, verbose=False, **iterations, **step)
    with torch.random.fork_rng(devices=[]):
        seeded(digits, 0)
        random.seed(call_seed(Batch(digits.x, tuple(range(COUNT)), 0)))
        expected = torch.from_numpy(attack.generate(digits.x.numpy(), digits.labels.numpy()))
    torch.testing.assert_close(found.x_adv, expected, atol=1e-6, rtol=0)
    assert found.success is not None
    assert found.success.any()
    assert (found.forwards >= 15).all()


def test_targeted_attacks_lead_to_the_targets_class(digits: Setting) -> None:
    goal = (digits.labels + 1) % 10
    for name, steps in (("foolbox:LinfPGD", "steps"), ("art:ProjectedGradientDescent", "max_iter")):
        given: dict[str, Any] = {"labels": None, "target_labels": goal, "eps": 0.6, steps: 30}
        found = digits.attack(name, **given)
        assert found.success is not None
        assert torch.equal(found.success, digits.logits(found.x_adv).argmax(1) == goal)
        assert found.success.any()


@pytest.mark.parametrize(
    ("name", "settings"),
    [("foolbox:L2DeepFoolAttack", {}), ("art:DeepFool", {"max_iter": 10, "batch_size": 8})],
)
def test_a_smallest_change_outside_the_ball_is_moved_into_it(
    name: str, settings: dict[str, Any], digits: Setting
) -> None:
    far, near = (digits.attack(name, norm="l2", eps=eps, **settings) for eps in (20.0, 0.3))
    assert far.success is not None
    assert far.success.any()
    lengths = ThreatModel("l2").distance(far.x_adv, digits.x)
    assert (lengths > 0.3).any()
    ThreatModel("l2", 0.3).check(near.x_adv, digits.x, name)
    assert near.success is not None
    assert near.success.sum() <= far.success.sum()


def test_the_loss_is_the_judges_margin_on_the_deployed_path(digits: Setting) -> None:
    found = digits.attack("foolbox:FGSM")
    logits = digits.logits(found.x_adv)
    right = logits.gather(1, digits.labels[:, None])[:, 0]
    others = logits.scatter(1, digits.labels[:, None], -torch.inf).amax(1)
    torch.testing.assert_close(found.loss, right - others)


# Names and settings


def test_every_name_that_is_listed_is_an_attack_that_says_what_it_can() -> None:
    everything = bridges.names()
    assert len(bridges.names("foolbox")) > 50
    assert len(bridges.names("art")) > 25
    for name in everything:
        kind = ATTACKS.get(name)
        assert kind.name == name
        assert kind.libraries == (name.partition(":")[0],)
        assert kind.goals
        assert set(kind.norms) <= set(NORMS.names())
        assert name in ATTACKS
    assert "foolbox:LinfPDG" not in ATTACKS
    assert ATTACKS.get("foolbox:LinfPGD") is ATTACKS.get("foolbox:LinfPGD")


def test_goals_are_those_that_foolbox_allows(digits: Setting) -> None:
    import foolbox

    wrapped = foolbox.PyTorchModel(Whole(digits), bounds=(0, 1), device="cpu")
    criterion = foolbox.criteria.TargetedMisclassification((digits.labels + 1) % 10)
    only = [n for n in bridges.names("foolbox") if ATTACKS.get(n).goals == ("untargeted",)]
    deepfool = {"foolbox:L2DeepFoolAttack", "foolbox:LinfDeepFoolAttack"}
    assert deepfool < set(only)  # foolbox takes a target there, but looks for the nearest class
    for name in set(only) - deepfool:
        settings = {"steps": 1} if name == "foolbox:VirtualAdversarialAttack" else {}
        attack = make_attack(name, settings).wrapped(**settings)  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="unsupported criterion"):
            attack(wrapped, digits.x, criterion, epsilons=EPS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("foolbox:LinfPDG", r"unknown attack 'foolbox:LinfPDG'; did you mean 'foolbox:LinfPGD'\?"),
        ("art:DeepFol", r"did you mean 'art:DeepFool'\?"),
        ("foolbx:LinfPGD", r"unknown attack 'foolbx:LinfPGD'; did you mean"),
        ("foolbox:DatasetAttack", "gives back images of a data set"),
        ("foolbox:L1PGD", "takes a radius in l1"),
        ("art:AdversarialPatch", "makes a patch"),
        ("art:DPatch", r"needs an estimator of another kind \(ObjectDetectorMixin\)"),
        ("art:FrameSaliencyAttack", "is on videos"),
        ("art:ProjectedGradientDescentTensorFlowV2", "is written for TensorFlow"),
    ],
)
def test_names_that_are_none_or_cannot_run_are_refused(name: str, words: str) -> None:
    with pytest.raises(GenrobustError, match=words):
        make_attack(name)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("foolbox:LinfPGD", {"step": 3}, r"no setting 'step'; did you mean 'steps'\?"),
        ("art:DeepFool", {"max_itr": 3}, r"no setting 'max_itr'; did you mean 'max_iter'\?"),
        ("art:SquareAttack", {"norm": 2}, "no setting 'norm'"),
        ("foolbox:VirtualAdversarialAttack", {}, "needs the setting 'steps'"),
        ("art:SquareAttack", {"surrogate": "sofmax"}, "did you mean 'softmax'"),
    ],
)
def test_settings_that_are_none_or_lack_are_refused(
    name: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(GenrobustError, match=words):
        make_attack(name, settings)


def test_a_name_of_a_library_cannot_be_taken() -> None:
    with pytest.raises(GenrobustError, match="already taken"):
        ATTACKS.register("foolbox:Mine")(object)


def test_what_an_attack_does_not_declare_is_refused(digits: Setting) -> None:
    with pytest.raises(GenrobustError, match="works under linf, not l2"):
        digits.attack("foolbox:LinfPGD", norm="l2")
    with pytest.raises(GenrobustError, match="works under l2, not linf"):
        digits.attack("art:CarliniL2Method")
    with pytest.raises(GenrobustError, match="untargeted only"):
        digits.attack("art:DeepFool", labels=None, target_labels=digits.labels)
    with pytest.raises(GenrobustError, match="needs a finite eps"):
        digits.attack("art:SquareAttack", eps=float("inf"))
    with pytest.raises(GenrobustError, match="needs a judge"):
        digits.attack("foolbox:LinfPGD", judge=None)


def test_what_fails_in_a_library_is_one_sentence(digits: Setting) -> None:
    with pytest.raises(GenrobustError, match=r"'foolbox:LinfPGD' failed in its library \(TypeErr"):
        digits.attack("foolbox:LinfPGD", steps="many")
    with pytest.raises(GenrobustError, match=r"'art:DeepFool' failed in its library \(ValueError"):
        digits.attack("art:DeepFool", max_iter=-1)


@pytest.mark.slow
def test_autoattack_runs_until_every_sample_falls(digits: Setting) -> None:
    found = digits.attack("art:AutoAttack", eps=0.5)
    assert found.success is not None
    assert found.success.all()
    assert ATTACKS.get("art:AutoAttack").goals == ("untargeted",)


@pytest.mark.parametrize(
    ("name", "settings", "package"),
    [
        ("art:AutoAttack", {}, "multiprocess"),
        ("art:PixelAttack", {"es": 0, "th": 1}, "cma"),
        ("foolbox:LinfinityBrendelBethgeAttack", {}, "numba"),
    ],
)
def test_a_package_that_is_missing_is_named_with_the_extra_that_has_it(
    name: str,
    settings: dict[str, Any],
    package: str,
    digits: Setting,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from foolbox.attacks import brendel_bethge

    missing = ModuleNotFoundError(f"No module named '{package}'", name=package)
    if package == "numba":  # foolbox looks for it when it is itself imported
        monkeypatch.setattr(brendel_bethge, "NUMBA_IMPORT_ERROR", missing)
    else:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(GenrobustError, match=rf"'{package}'.*install \"genrobust\[bridges\]\""):
        digits.attack(name, **settings)
    extra = [line for line in requires("genrobust") or [] if 'extra == "bridges"' in line]
    assert any(line.startswith(package) for line in extra)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["foolbox:LinfinityBrendelBethgeAttack", "art:BrendelBethgeAttack"]
)
def test_attacks_that_compile_run(name: str, digits: Setting) -> None:
    found = digits.attack(name, eps=0.5, steps=3)
    assert found.success is not None
    assert found.success.any()


@pytest.mark.slow
def test_an_attack_by_evolution_changes_as_many_pixels_as_it_may(digits: Setting) -> None:
    found = digits.attack("art:PixelAttack", es=0, th=1, max_iter=2)
    assert (found.forwards > 10).all()
    assert ((found.x_adv != digits.x).flatten(1).sum(1) <= 1).all()


def test_arts_step_keeps_its_proportion_to_the_radius(digits: Setting) -> None:
    given = {"max_iter": 2, "num_random_init": 0}
    usual = digits.attack("art:ProjectedGradientDescent", **given)
    explicit = digits.attack("art:ProjectedGradientDescent", eps_step=EPS / 3, **given)
    torch.testing.assert_close(usual.x_adv, explicit.x_adv)


# What a library does to its surroundings


@pytest.mark.slow
def test_neither_library_is_imported_before_it_is_asked_for() -> None:
    script = (
        "import sys, genrobust, genrobust.attacks.bridges\n"
        "genrobust.ATTACKS.names(); genrobust.ATTACKS.families()\n"
        "assert not {'foolbox', 'art'} & set(sys.modules)\n"
        "genrobust.ATTACKS.get('foolbox:LinfPGD')\n"
        "assert 'foolbox' in sys.modules and 'art' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_threads_do_not_disturb_each_other(digits: Setting) -> None:
    def run(seed: int) -> Tensor:
        return digits.attack("foolbox:LinfPGD", steps=3, seed=seed).x_adv

    alone = [run(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, range(4)))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(alone[0], alone[1])


def test_a_sample_without_a_point_to_start_from_keeps_its_source(digits: Setting) -> None:
    from foolbox.attacks import LinearSearchBlendedUniformNoiseAttack

    weak = LinearSearchBlendedUniformNoiseAttack(directions=1, steps=1)
    found = digits.attack("foolbox:BoundaryAttack", norm="l2", eps=9.0, init_attack=weak, steps=1)
    kept = (found.x_adv == digits.x).flatten(1).all(1)
    assert int(kept.sum()) > 0
    assert found.success is not None
    assert not found.success[kept].any()


def test_a_path_without_gradients_is_named_and_a_surrogate_has_them() -> None:
    network = initialised(NetworkSpec(gaussian=0, categorical=(7,)), seed=1)
    setting = Setting(
        genrobust.wrap(network),
        load_judge("digits", "lenet"),
        genrobust.load_images("digits").take(range(2)),
        torch.tensor([0, 1]),
    )
    with pytest.raises(GenrobustError, match="pass surrogate='softmax'"):
        setting.attack("foolbox:LinfPGD", steps=2)
    found = setting.attack("foolbox:LinfPGD", steps=2, surrogate="softmax")
    assert found.backwards.tolist() == [2, 2]
    assert setting.attack("art:SquareAttack", max_iter=2).backwards.tolist() == [0, 0]


def test_a_deployment_of_its_own_is_looked_at_but_not_differentiated(digits: Setting) -> None:
    vae = digits.model
    rounded = genrobust.wrap(vae.module, deploy=lambda x: vae.reconstruct((63 * x).round() / 63))
    setting = replace(digits, model=rounded)
    for name in ("foolbox:LinfPGD", "art:FastGradientMethod"):
        with pytest.raises(GenrobustError, match=r"deployed path of its own.*surrogate='softmax'"):
            setting.attack(name)
        assert int(setting.attack(name, surrogate="softmax").backwards.sum()) > 0
    assert setting.attack("art:SquareAttack", max_iter=2).backwards.sum() == 0


def test_a_model_without_gradients_needs_an_attack_without(digits: Setting) -> None:
    vae = digits.model
    blind = genrobust.wrap(
        vae.module, encode=lambda x: vae.encode(x.detach()), differentiable=False
    )
    with pytest.raises(GenrobustError, match="choose an attack that needs none"):
        replace(digits, model=blind).attack("foolbox:LinfPGD")


# Through the commands


@pytest.mark.slow
def test_a_bench_runs_them_and_show_prints_them(small_suite: Suite, tmp_path: Path) -> None:
    path = tmp_path / "small.json"
    path.write_text(small_suite.model_dump_json())
    words = ["bench", "--model", "vae", "--suite", str(path), "--limit", "2", "--eps", "0.2"]
    names = ["--attack", "foolbox:LinfPGD", "--attack", "art:FastGradientMethod"]
    done = CliRunner().invoke(app, [*words, *names, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert len(list((tmp_path / "out").rglob("record.json"))) == 1
    shown = CliRunner().invoke(app, ["show", "attack", "art:DeepFool"])
    assert "max_iter = 100" in shown.output
