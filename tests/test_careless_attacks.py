"""Attacks and objectives that slip: each is one sentence that names it, and none gives a number."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust import GenerativeModel
from genrobust.attacks import ATTACKS, Attack, make_attack
from genrobust.attacks.given import unchanged
from genrobust.attacks.latent import Latent
from genrobust.attacks.noise import Noise
from genrobust.batch import Batch, Context
from genrobust.cli.app import app
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.judges.load import load_judge
from genrobust.models.wrapping import adapt
from genrobust.norms import Linf, load_norm
from genrobust.objectives.base import OBJECTIVES
from genrobust.objectives.checked import checked
from genrobust.objectives.output import OutputDistance
from genrobust.objectives.universal import recorded_layers
from genrobust.optimizers import Minimum, Problem
from genrobust.plugins import blamed
from genrobust.suites import AttackEntry
from genrobust.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("brief")

#: A search, given the problem, the best so far and the threat model.
Slip = Callable[[Problem, Minimum, ThreatModel], Any]

NO_NORM: Any = 3
ONE = torch.tensor([True, False])


# Attacks


@dataclass(frozen=True)
class Slips(Attack):
    """Does what the test says."""

    name = "slips"
    paper = "none"
    norms = ("any",)
    slip: ClassVar[Slip]

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        problem = Problem.of(OutputDistance(), context)
        best = Minimum(problem, context.batch.x)
        found: tuple[Problem, Minimum] = type(self).slip(problem, best, threat)
        return found


def steps_in_place(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
    x_adv = x = problem.context.batch.x
    x_adv += 5 * threat.eps
    x_adv.copy_(threat.project(x_adv, x))
    best.update(problem.index, x_adv, problem.loss(x_adv))
    return problem, best


def fails(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
    raise ValueError("boom")


def leaves(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
    raise SystemExit(3)


def asks_ours_for_nonsense(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
    return threat.project(best.x[:, :, :3], best.x)


def gives(**fields: Callable[[Minimum], Any]) -> Slip:
    def slip(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
        for name, value in fields.items():
            setattr(best, name, value(best))
        return problem, best

    return slip


SLIPS: dict[str, tuple[Slip, str]] = {
    "steps in place": (steps_in_place, r"changed its sources; .*x\.clone\(\)"),
    "fails": (fails, r"failed \(ValueError: boom; test_careless_attacks\.py, line \d+\); repair"),
    "leaves": (leaves, r"failed \(SystemExit: 3; test_careless_attacks"),
    "asks ours for nonsense": (asks_ours_for_nonsense, r"failed \(RuntimeError: .*careless"),
    "returns nothing": (lambda *_: None, r"returned None from its search; return \(problem"),
    "returns images": (lambda _, best, __: best.x, "returned a tensor of shape .* from its search"),
    "one image": (gives(x=lambda b: b.x[:1]), r"images a tensor of shape \(1, 1, 32, 32\)"),
    "double images": (gives(x=lambda b: b.x.double()), "images a tensor of .*float64"),
    "no images": (gives(x=lambda b: None), "gave as images None"),
    "one loss": (gives(loss=lambda b: b.loss[:1]), r"loss a tensor of shape \(1,\).* for 2"),
    "a column of losses": (gives(loss=lambda b: b.loss[:, None]), r"loss a tensor .*\(2, 1\)"),
    "whole losses": (gives(loss=lambda b: b.loss.bool().long()), "loss a tensor .*int64.*float"),
    "a loss that is NaN": (gives(loss=lambda b: b.loss * torch.nan), "a loss that is NaN"),
    "a problem of one": (
        lambda problem, best, _: (Problem.of(OutputDistance(), problem.context[ONE]), best),
        r"counted forwards as a tensor of shape \(1,\).* for 2 sources; return the problem of the",
    ),
    "counts backwards": (
        lambda problem, best, _: (replace(problem, backwards=problem.backwards - 1), best),
        "counted backwards as .*Problem.of",
    ),
}


@pytest.mark.parametrize("eps", [0.1, 1.0])
@pytest.mark.parametrize("case", SLIPS)
def test_an_attack_that_slips_gives_no_result(
    case: str, eps: float, tiny_vae: GenerativeModel
) -> None:
    slip, said = SLIPS[case]
    kind = type("Slipping", (Slips,), {"slip": staticmethod(slip)})
    x = genrobust.load_images("digits").take([0, 1])
    with pytest.raises(GenrobustError, match=f"the attack 'slips' .*{said}"):
        kind()(tiny_vae, Batch(x, (0, 1), target_x=x.flip(0)), ThreatModel("linf", eps))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"goals": "untargeted"}, r"goals = 'untargeted'; give a tuple, such as goals = \(\"targ"),
        ({"goals": ()}, r"goals = \(\); give a tuple"),
        ({"goals": ("sideways",)}, r"goals = \('sideways',\); give"),
        ({"norms": "linf"}, r"norms = 'linf'; give a tuple, such as norms = \(\"any\",\)"),
        ({"norms": (Linf,)}, r"norms = .*give a tuple"),
        ({"libraries": "scipy"}, r"libraries = 'scipy'; give a tuple"),
    ],
)
def test_what_an_attack_declares_is_no_string_of_letters(declared: Any, said: str) -> None:
    """A goal is in "untargeted" letter by letter, and of none nothing was run and all stood."""
    with pytest.raises(GenrobustError, match=f"^the attack 'slips' declares {said}"):
        type("Slipping", (Slips,), declared)


def undecorated() -> type:
    class Longer(Latent):
        steps: int = 1000

    return Longer


def untyped() -> type:
    @dataclass(frozen=True)
    class Longer(Latent):
        steps = 1000

    return Longer


def one_more() -> type:
    class Weighed(Slips):
        weight: float = 0.5
        paper: str = "known"
        RATE = 0.1
        share: ClassVar[float] = 0.1
        _kept: dict[str, Tensor]

    return Weighed


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (undecorated, "steps = 1000, and runs with 100; .*dataclass"),
        (untyped, "steps = 1000, and runs with 100; give 'steps' a type"),
        (one_more, "weight, of which its class makes no setting; give 'weight' a type"),
    ],
)
def test_a_setting_that_is_none_is_told(
    kind: Callable[[], type], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an attack runs with other steps than its code shows, and what it leaves stands."""
    monkeypatch.setitem(ATTACKS._registered, "longer", kind())
    with pytest.raises(GenrobustError, match=f"^the attack 'longer' declares {said}"):
        make_attack("longer")
    assert CliRunner().invoke(app, ["show", "attack", "longer"]).exit_code == 2


def test_a_setting_of_ones_own_class_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, slots=True)
    class Made(Latent):
        steps: int = field(default_factory=lambda: 7)
        weight: float = 0.5

    monkeypatch.setitem(ATTACKS._registered, "made", Made)
    assert make_attack("made", {"weight": 0.1}).settings()["steps"] == 7


def test_an_objective_that_declares_a_goal_as_a_string_is_told() -> None:
    @dataclass(frozen=True)
    class Aiming:
        goals: ClassVar[Any] = "targeted"

        def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
            return x_adv.flatten(1).sum(1)

    OBJECTIVES.register("aiming")(Aiming)
    try:
        with pytest.raises(GenrobustError, match="'objective:aiming' declares goals = 'targeted'"):
            make_attack("objective:aiming")
    finally:
        OBJECTIVES._registered.pop("aiming")


@pytest.mark.parametrize("deployed", [False, True])
def test_an_attack_that_does_not_count_is_told(deployed: bool, tiny_vae: GenerativeModel) -> None:
    """As one does that steps with an optimiser of torch's down a loss of its own."""
    model = replace(tiny_vae, deploy=tiny_vae.reconstruct) if deployed else tiny_vae

    def slip(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
        for _ in range(20):
            problem.context.model.reconstruct(best.x)
        return problem, best

    x = genrobust.load_images("digits").take([0, 1])
    batch = Batch(x, (0, 1), target_x=x.flip(0))
    kind = type("Own", (Slips,), {"slip": staticmethod(slip)})
    with pytest.warns(GenrobustWarning, match="'slips' passes more images .* than it counts"):
        kind()(model, batch, ThreatModel("linf", 0.1))


def test_what_an_attack_gives_is_free_of_its_graph(tiny_vae: GenerativeModel) -> None:
    def slip(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
        with torch.inference_mode():
            best.loss = problem.loss(best.x)
        best.x = nn.Parameter(best.x)
        return problem, best

    kind = type("Slipping", (Slips,), {"slip": staticmethod(slip)})
    x = genrobust.load_images("digits").take([0, 1])
    found = kind()(tiny_vae, Batch(x, (0, 1), target_x=x.flip(0)), ThreatModel("linf", 0.1))
    assert type(found.x_adv) is Tensor
    assert not found.x_adv.requires_grad
    assert not found.loss.is_inference()


MODES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "precision": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "device": (lambda: torch.set_default_device("meta"), lambda: torch.empty(0).device),
}


@pytest.mark.parametrize("mode", MODES)
def test_modes_that_an_attack_sets_end_with_it(mode: str, tiny_vae: GenerativeModel) -> None:
    """Else the model would be blamed for what fails in them, or the next attack hindered."""
    change, asked = MODES[mode]

    def slip(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
        best.update(problem.index, best.x, problem.loss(best.x))
        change()
        return problem, best

    kind = type("Slipping", (Slips,), {"slip": staticmethod(slip)})
    x = genrobust.load_images("digits").take([0, 1])
    before = asked()
    try:
        kind()(tiny_vae, Batch(x, (0, 1), target_x=x.flip(0)), ThreatModel("linf", 0.1))
        assert asked() == before
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_grad_enabled(True)


def test_an_attack_has_gradients_wherever_it_is_called(tiny_vae: GenerativeModel) -> None:
    def slip(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
        change = torch.zeros_like(best.x, requires_grad=True)
        problem.context.model.surrogate(best.x + change, "softmax").sum().backward()
        best.update(problem.index, best.x, problem.loss(best.x))
        return problem, best

    kind = type("Own", (Slips,), {"slip": staticmethod(slip)})
    x = genrobust.load_images("digits").take([0, 1])
    batch = Batch(x, (0, 1), target_x=x.flip(0))
    with torch.no_grad():
        assert kind()(tiny_vae, batch, ThreatModel("linf", 0.1)).loss.isfinite().all()


def trains_the_judge(batch: Any, model: GenerativeModel) -> None:
    for weight in batch.judge.module.parameters():
        weight.data.mul_(0.5)


def gives_the_judge_a_new_head(batch: Any, model: GenerativeModel) -> None:
    batch.judge.module.append(nn.Linear(10, 10))


#: What a search does to what it is given, and how it is told.
CHANGES: dict[str, tuple[Callable[[Any, GenerativeModel], Any], str]] = {
    "labels": (lambda b, _: b.labels.add_(1), r"its labels; let it work on labels\.clone\(\)"),
    "targets": (lambda b, _: b.target_x.mul_(0.5), r"its targets; .*target_x\.clone\(\)"),
    "target labels": (lambda b, _: b.target_labels.zero_(), "its target labels; "),
    "references": (lambda b, _: b.references[0].mul_(0.5), "its references; "),
    "reference codes": (lambda b, _: next(iter(b.codes.values())).zero_(), "its references' codes"),
    "judge": (trains_the_judge, r"its judge \(.*weight, .*\); .*deepcopy\(context\.batch\.judge"),
    "judge's head": (gives_the_judge_a_new_head, r"its judge \(parts\)"),
    "judge's mode": (lambda b, _: b.judge.module.train(), r"its judge \(mode, mode of '0'"),
    "model's mode": (
        lambda _, m: m.module.train(),
        r"its model \(mode, .*deepcopy\(context\.model",
    ),
    "model": (lambda _, m: next(m.module.parameters()).data.mul_(2), r"its model \(encoder\..*\);"),
    "hooks": (
        lambda _, m: m.module.register_forward_hook(lambda *_: None),
        r"its model \(hooks\);",
    ),
    "two": (
        lambda b, m: (b.labels.add_(1), m.module.train()),
        r"its model \(.*\) and its labels; let it work on copy\..* and labels\.clone\(\)",
    ),
}


def all_that_is_given(model: GenerativeModel) -> Batch:
    """Two digits, with a judge of its own and reference codes that are kept."""
    images = genrobust.load_images("digits")
    x, labels, lenet = images.take([0, 1]), images.labels[:2].clone(), load_judge("digits", "lenet")
    judge = replace(lenet, module=copy.deepcopy(lenet.module))
    references = images.take([2, 3]), images.labels[2:4].clone()
    target, wanted = x.flip(0), labels.flip(0)
    batch = Batch(x, (0, 1), 0, labels, target, wanted, judge, references, codes={})
    Context(model, batch).reference_codes()
    return batch


def numbers_of(batch: Any, model: GenerativeModel) -> list[Tensor]:
    """All of it, and what model and judge make of it."""
    tensors = [batch.x, batch.labels, batch.target_x, batch.target_labels, *batch.references]
    answers = [model.reconstruct(batch.x), batch.judge.logits(batch.x), *batch.codes.values()]
    return [tensor.detach().clone() for tensor in (*tensors, *answers)]


@pytest.mark.parametrize("case", CHANGES)
def test_an_attack_that_changes_what_it_is_given_is_refused_and_all_is_put_back(
    case: str, tiny_vae: GenerativeModel
) -> None:
    change, said = CHANGES[case]

    def slip(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
        change(problem.context.batch, tiny_vae)
        problem.loss(best.x)  # which fails in train mode, for which the model is not to blame
        return problem, best

    batch = all_that_is_given(tiny_vae)
    before = numbers_of(batch, tiny_vae)
    kind = type("Slipping", (Slips,), {"slip": staticmethod(slip)})
    with pytest.raises(GenrobustError, match=f"^the attack 'slips' changed {said}"):
        kind()(tiny_vae, batch, ThreatModel("linf", 0.1))
    assert all(map(torch.equal, numbers_of(batch, tiny_vae), before))
    assert not tiny_vae.module.training
    assert not batch.judge.module.training


def test_an_attack_is_not_to_blame_for_what_a_model_writes_itself() -> None:
    class Counting(nn.Module):
        input_shape = (1, 4, 4)

        def __init__(self) -> None:
            super().__init__()
            self.calls: Tensor
            self.register_buffer("calls", torch.zeros(()))

        def encode(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x.flatten(1)

        def decode(self, code: Tensor) -> Tensor:
            return code.view(-1, 1, 4, 4)

    def slip(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
        best.update(problem.index, best.x, problem.loss(best.x))
        return problem, best

    model = adapt(Counting())
    kind = type("Honest", (Slips,), {"slip": staticmethod(slip)})
    x = torch.rand(2, 1, 4, 4)
    assert kind()(model, Batch(x, (0, 1), target_x=x.flip(0)), ThreatModel("linf", 0.1)).loss.all()


def test_searches_side_by_side_put_back_what_was_before_the_first(
    tiny_vae: GenerativeModel,
) -> None:
    batch = all_that_is_given(tiny_vae)
    before = numbers_of(batch, tiny_vae)
    context = Context(tiny_vae, batch)
    first, second = unchanged("the attack 'a'", context), unchanged("the attack 'b'", context)
    first.__enter__()
    trains_the_judge(batch, tiny_vae)
    second.__enter__()
    with pytest.raises(GenrobustError, match="the attack 'a' or the attack 'b' changed its judge"):
        first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert all(map(torch.equal, numbers_of(batch, tiny_vae), before))


def test_only_searches_that_run_may_have_changed_it(tiny_vae: GenerativeModel) -> None:
    batch = all_that_is_given(tiny_vae)
    context = Context(tiny_vae, batch)
    names = ["the attack 'a'", "the attack 'a'", "the attack 'b'", "the attack 'c'"]
    twin, first, ended, last = (unchanged(who, context) for who in names)
    for search in (twin, ended, first, last):
        search.__enter__()
    ended.__exit__(None, None, None)
    twin.__exit__(None, None, None)
    trains_the_judge(batch, tiny_vae)
    with pytest.raises(
        GenrobustError, match=r"^the attack 'a' or the attack 'c' changed its judge"
    ):
        last.__exit__(None, None, None)
    first.__exit__(None, None, None)


def test_layers_that_another_search_of_ours_records_are_no_change(
    tiny_vae: GenerativeModel,
) -> None:
    """In whatever order the two begin and end; what is recorded goes on."""
    context = Context(tiny_vae, all_that_is_given(tiny_vae))
    with unchanged("the attack 'a'", context), recorded_layers(tiny_vae) as layers:
        with unchanged("the attack 'b'", context):
            pass
        tiny_vae.reconstruct(context.batch.x)
    assert layers
    with recorded_layers(tiny_vae) as layers:
        other = unchanged("the attack 'b'", context)
        other.__enter__()
        handle = tiny_vae.module.register_forward_hook(lambda *_: None)
        with pytest.raises(GenrobustError, match=r"'b' changed its model \(hooks\);"):
            other.__exit__(None, None, None)
        assert handle.id not in tiny_vae.module._forward_hooks
        other = unchanged("the attack 'b'", context)
        other.__enter__()
        tiny_vae.reconstruct(context.batch.x)
    assert layers
    other.__exit__(None, None, None)
    assert not any(part._forward_hooks for part in tiny_vae.module.modules())


def test_an_attack_that_fails_after_a_change_is_told_so_and_all_is_put_back(
    tiny_vae: GenerativeModel,
) -> None:
    def slip(problem: Problem, best: Minimum, threat: ThreatModel) -> Any:
        trains_the_judge(problem.context.batch, tiny_vae)
        raise ValueError("boom")

    batch = all_that_is_given(tiny_vae)
    before = numbers_of(batch, tiny_vae)
    kind = type("Slipping", (Slips,), {"slip": staticmethod(slip)})
    with pytest.raises(GenrobustError, match=r"'slips' failed \(ValueError: boom"):
        kind()(tiny_vae, batch, ThreatModel("linf", 0.1))
    assert all(map(torch.equal, numbers_of(batch, tiny_vae), before))


def test_a_plugins_setting_that_it_refuses_is_named() -> None:
    @dataclass(frozen=True)
    class Picky(Slips):
        share: float = 0.5

        def __post_init__(self) -> None:
            if self.share > 1:
                raise ValueError("share is 1 at most")

    ATTACKS.register("picky")(Picky)
    try:
        assert make_attack("picky", {"share": 1.0})
        with pytest.raises(GenrobustError, match=r"'picky' failed .*share is 1 at most"):
            make_attack("picky", {"share": 2.0})
    finally:
        ATTACKS._registered.pop("picky")


class Side(Enum):
    UP = "up"


@dataclass(frozen=True)
class Kinds(Slips):
    sizes: tuple[int, ...] = (1, 2)
    pairs: tuple[tuple[int, float], ...] = ()
    names: frozenset[str] = frozenset()
    side: Side = Side.UP
    file: Path = Path()
    many: list[int] = field(default_factory=lambda: [7])


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTACKS._registered, "kinds", Kinds)


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize(
    ("key", "typed", "value"),
    [
        ("sizes", [3, 4], (3, 4)),
        ("sizes", (3, 4), (3, 4)),
        ("pairs", [[3, 0.5]], ((3, 0.5),)),
        ("names", ["a"], frozenset("a")),
        ("side", "up", Side.UP),
        ("file", "x.npy", Path("x.npy")),
        ("many", [1], [1]),
    ],
)
def test_a_setting_of_a_kind_that_json_lacks_is_taken_as_json_has_it(
    key: str, typed: Any, value: Any
) -> None:
    entry = AttackEntry(attack="kinds", goal="untargeted", settings={key: typed})
    for read in (entry, AttackEntry.model_validate_json(entry.model_dump_json())):
        assert make_attack("kinds", read.settings).settings()[key] == value


@pytest.mark.usefixtures("kinds")
def test_a_setting_that_is_a_whole_model_is_told_by_its_kind() -> None:
    with pytest.raises(GenrobustError, match=r"^the attack 'kinds' got file=a Seq") as told:
        make_attack("kinds", {"file": nn.Sequential(nn.Linear(2, 2))})
    assert "\n" not in str(told.value)


@pytest.mark.usefixtures("kinds")
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sizes", ["3"], r"sizes=\['3'\]: .*; its default is \(1, 2\)"),
        ("sizes", 3, r"sizes=3: .*; its default is \(1, 2\)"),
        ("sizes", torch.zeros(1), r"sizes=tensor.*its default is \(1, 2\)"),
        ("side", "down", r"side='down': .*; its default is <Side.UP"),
        ("many", ["a"], r"many=.*; its default is \[7\]"),
    ],
)
def test_a_setting_of_another_kind_is_refused(key: str, value: Any, said: str) -> None:
    with pytest.raises(GenrobustError, match=f"the attack 'kinds' got {said}"):
        make_attack("kinds", {key: value})


def test_a_setting_without_a_default_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Needy(Slips):
        strength: float
        rounds: tuple[int, ...] = field(kw_only=True)
        steps: int = 5

    monkeypatch.setitem(ATTACKS._registered, "needy", Needy)
    said = (
        r"^the attack 'needy' needs strength=, of type float and rounds=, of type tuple\[int, "
        r"\.+\]; give it, in a suite's file as .settings.: \{.strength.: \.\.\., .rounds.: \.\.\.\}"
    )
    with pytest.raises(GenrobustError, match=said):
        make_attack("needy")
    with pytest.raises(GenrobustError, match=r"got strength='x': .*; its type is float$"):
        make_attack("needy", {"strength": "x", "rounds": [1]})
    found = make_attack("needy", {"strength": 2.0, "rounds": [1]})
    assert found.settings() == {"strength": 2.0, "rounds": (1,), "steps": 5}
    shown = CliRunner().invoke(app, ["show", "attack", "needy"]).output
    assert "strength: float, which must be given" in shown
    assert "steps = 5" in shown


def test_a_fault_of_our_own_keeps_its_traceback(
    tiny_vae: GenerativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Noise, "search", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        genrobust.attack("noise", tiny_vae, torch.zeros(1, 1, 32, 32))


def test_a_host_is_not_to_blame_for_what_ours_does_in_it() -> None:
    class Plugin: ...

    wrong = pytest.raises(GenrobustError, match="the norm 'mine' failed")
    with wrong, blamed("the norm 'mine'", Plugin):
        load_norm(NO_NORM)
    with pytest.raises(AttributeError), blamed("the executor 'mine'", Plugin, host=True):
        load_norm(NO_NORM)


# Objectives


def brightness(x_adv: Tensor, context: Context) -> Tensor:
    return -context.model.surrogate(x_adv, "softmax").flatten(1).mean(1)


def root_of_0(x_adv: Tensor, context: Context) -> Tensor:
    return ((x_adv - x_adv.detach()).square().sum((1, 2, 3))).sqrt()


LOSSES: dict[str, tuple[Callable[[Tensor, Context], Any], str]] = {
    "one for the batch": (lambda x, c: brightness(x, c).mean(), r"shape \(\) and .* for 2 images"),
    "a column": (
        lambda x, c: brightness(x, c)[:, None],
        r"shape \(2, 1\).*return a float for each",
    ),
    "nothing": (lambda x, c: None, "gave a NoneType for 2 images"),
    "a number": (lambda x, c: 1.0, "gave a float for 2 images"),
    "whole numbers": (lambda x, c: torch.zeros(len(x)).long(), r"shape \(2,\) and torch\.int64"),
    "NaN": (lambda x, c: (brightness(x, c) - 2).log(), "gave NaN for 2 of 2 images"),
    "NaN of one": (
        lambda x, c: brightness(x, c) * torch.tensor([1, torch.nan])[: len(x)],
        "gave NaN for 1 of 2 images",
    ),
    "no slope": (root_of_0, "gave a gradient of NaN for 2 of 2 images"),
    "no gradient": (lambda x, c: brightness(x, c).detach(), "no gradient that reaches the images"),
    "writes": (lambda x, c: brightness(x.mul_(0.5), c), r"failed \(RuntimeError: .*in-place"),
    "writes past": (lambda x, c: brightness(x.data.mul_(0.5), c), r"wrote to .*x_adv\.clone\(\)"),
    "a slip": (lambda x, c: c.modle, r"failed \(AttributeError: .*careless_attacks.py, line \d+\)"),
    "leaves": (lambda x, c: exit(3), r"failed \(SystemExit: 3"),
}


@pytest.fixture
def lowers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Registers an objective; gives the attack that lowers it."""

    def register(loss: Callable[[Tensor, Context], Any], **more: Any) -> str:
        call = {"__call__": lambda self, x_adv, context: loss(x_adv, context)}
        kind: Any = type("Slipping", (), {**call, "__module__": __name__, **more})
        monkeypatch.setitem(OBJECTIVES._registered, "mine", dataclass(frozen=True)(kind))
        return "objective:mine"

    return register


@pytest.mark.parametrize("case", LOSSES)
def test_an_objective_that_slips_gives_no_result(
    case: str, lowers: Callable[..., str], tiny_vae: GenerativeModel
) -> None:
    loss, said = LOSSES[case]
    x = genrobust.load_images("digits").take([0, 1])
    with pytest.raises(GenrobustError, match=f"the objective 'mine' .*{said}"):
        genrobust.attack(lowers(loss), tiny_vae, x, steps=2)


def test_an_objective_that_slips_is_named_wherever_an_attack_lowers_it(
    tiny_vae: GenerativeModel,
) -> None:
    x = genrobust.load_images("digits").take([0, 1])
    problem = Problem.of(root_of_0, Context(tiny_vae, Batch(x, (0, 1))))
    assert problem.loss(x).tolist() == [0, 0]
    with pytest.raises(GenrobustError, match="the objective 'root_of_0' gave a gradient of NaN"):
        problem.narrow(torch.tensor([True, False])).gradient(x[:1])


def test_an_honest_objective_is_an_attack_and_one_of_ours_is_called_as_it_is(
    lowers: Callable[..., str], tiny_vae: GenerativeModel
) -> None:
    x = genrobust.load_images("digits").take([0, 1])
    found = genrobust.attack(lowers(brightness), tiny_vae, x, steps=2)
    assert found.loss.isfinite().all()
    problem = Problem.of(brightness, Context(tiny_vae, Batch(x, (0, 1))))
    made = x * torch.ones(1, requires_grad=True)  # by a network that is trained for it
    assert problem.loss(made).tolist() == problem.loss(x).tolist()
    ours = OutputDistance()
    assert checked(ours) is ours


def test_an_objective_that_cannot_be_made_is_named(
    lowers: Callable[..., str], tiny_vae: GenerativeModel
) -> None:
    name = lowers(brightness, __post_init__=lambda self: 1 / 0)
    with pytest.raises(GenrobustError, match=r"the objective 'mine' failed \(ZeroDivisionError"):
        genrobust.attack(name, tiny_vae, torch.zeros(1, 1, 32, 32), steps=2)


def test_a_field_of_an_objective_without_a_default_is_a_setting_that_is_asked_for(
    lowers: Callable[..., str], tiny_vae: GenerativeModel
) -> None:
    declared = {"weight": float, "parts": list}
    parts = field(default_factory=list)
    name = lowers(brightness, __annotations__=declared, parts=parts)
    x = torch.zeros(1, 1, 32, 32)
    with pytest.raises(GenrobustError, match=f"'{name}' needs weight=, of type float"):
        genrobust.attack(name, tiny_vae, x, steps=1)
    assert genrobust.attack(name, tiny_vae, x, steps=1, weight=0.5, parts=[1]).loss.isfinite().all()


def test_a_field_of_an_objective_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Soft(OutputDistance):
        weight: float = 0.5

    monkeypatch.setitem(OBJECTIVES._registered, "soft", Soft)
    with pytest.raises(GenrobustError, match="the objective 'soft' declares weight, of which"):
        make_attack("objective:soft")


def test_an_objective_that_changes_what_it_is_given_is_refused(
    lowers: Callable[..., str], tiny_vae: GenerativeModel
) -> None:
    def trains(x_adv: Tensor, context: Context) -> Tensor:
        trains_the_judge(context.batch, context.model)
        return brightness(x_adv, context)

    batch = all_that_is_given(tiny_vae)
    before = numbers_of(batch, tiny_vae)
    attack = make_attack(lowers(trains), {"steps": 1})
    with pytest.raises(GenrobustError, match=r"^the objective 'mine' changed its judge \("):
        attack(tiny_vae, batch, ThreatModel("linf", 0.1))
    assert all(map(torch.equal, numbers_of(batch, tiny_vae), before))
