"""Plugins that slip: each is one sentence that names it, and none gives a number."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from some_sources import sources_of
from torch import Tensor

import genrobust
from genrobust import GenerativeModel
from genrobust.data.base import DATASETS, Images
from genrobust.data.reference import Reference
from genrobust.errors import GenrobustError
from genrobust.judges.judge import NO_VERDICT
from genrobust.judges.load import JUDGES
from genrobust.models import MODELS
from genrobust.norms import NORMS, Linf, load_norm
from genrobust.optimizers import Minimum, Problem
from genrobust.registry import Registry
from genrobust.rules import CHANGED, KEPT, RULES, Rule, Sources, Words
from genrobust.runner.execute import Work, results
from genrobust.runner.executors import EXECUTORS, Executor
from genrobust.runner.scorer import Scorer, scorer_of
from genrobust.suites import load_suite
from genrobust.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("brief")

#: A search, given the problem, the best so far and the threat model.
Slip = Callable[[Problem, Minimum, ThreatModel], Any]

NO_NORM: Any = 3
ONE = torch.tensor([True, False])


# Models and judges


@pytest.mark.parametrize(
    ("registry", "use"),
    [
        (MODELS, genrobust.load_model),
        (JUDGES, lambda name: genrobust.load_judge("digits", name)),
    ],
    ids=["model", "judge"],
)
def test_a_function_that_makes_no_model_or_judge_is_named(
    registry: Registry[Any], use: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._registered, "mine", lambda dataset: no_disk())
    said = rf"the {registry.kind} 'mine' failed \(OSError: no disk; test_careless_plugins"
    with pytest.raises(GenrobustError, match=said):
        use("mine")


# Norms

L = Linf()


def anywhere(self: Linf, x_adv: Tensor, x: Tensor, radius: float | Tensor) -> Tensor:
    return x_adv.clamp(0, 1)


def shrunk(kept: Tensor, whole: Tensor) -> Tensor:
    """As much shorter for all images as for the one that lies farthest outside."""
    return whole * (kept.abs().amax((1, 2, 3)) / whole.abs().amax((1, 2, 3))).min()


def scaled(norm: Linf, x_adv: Tensor, x: Tensor, radius: float | Tensor) -> Tensor:
    change = x_adv - x
    share = radius / norm.length(change).clamp_min(1e-12).view(-1, 1, 1, 1)
    return (x + change * share.clamp_max(1)).clamp(0, 1)


def tipped(gradient: Tensor) -> Tensor:
    """Along the steepest difference of two neighbours."""
    falls = -gradient.flatten(1).diff(dim=1, append=torch.zeros(len(gradient), 1))
    most = falls.abs().argmax(1, keepdim=True)
    one = torch.zeros_like(falls).scatter(1, most, falls.gather(1, most).sign())
    return one.diff(dim=1, prepend=torch.zeros(len(gradient), 1)).view_as(gradient)


NORM_SLIPS: dict[str, tuple[dict[str, Any], str]] = {
    "stays": ({"project": lambda s, a, x, r: x.clone()}, "moves images that are inside the ball"),
    "stays for one radius": (
        {"project": lambda s, a, x, r: L.project(a, x, r) if isinstance(r, Tensor) else x.clone()},
        "forgets what it projects",
    ),
    "projects nowhere": ({"project": anywhere}, "from the source in a ball of 0.1"),
    "leaves the box": (
        {"project": lambda s, a, x, r: x + (a - x).clamp(-3 * r, 3 * r), "is_box": False},
        r"outside \[0, 1\]",
    ),
    "longer where the box cuts": (  # of both signs along a row, of which the box leaves one
        {
            "length": lambda s, c: c.flatten(1).cumsum(1).abs().sum(1),
            "steepest": lambda s, g, x: tipped(g),
            "reach": lambda s, n: n * (n + 1) / 2,
            "draw": lambda s, z, g: torch.full(z, 1e-6),
            "project": lambda s, a, x, r: scaled(s, a, x, r),
            "is_box": False,
        },
        "from the source in a ball of",
    ),
    "no interval": (
        {"project": lambda s, a, x, r: x + (L.project(a, x, r) - x) * (a > 0), "is_box": True},
        "its ball is no interval",
    ),
    "writes": ({"project": lambda s, a, x, r: x.copy_(L.project(a, x, r))}, r"writes by project"),
    "writes the gradient": ({"steepest": lambda s, g, x: g.sign_()}, r"writes by steepest"),
    "one projection": ({"project": lambda s, a, x, r: L.project(a, x, r)[:1]}, r"\(1, 1, 32, 32\)"),
    "one direction": ({"steepest": lambda s, g, x: g.sign()[:1]}, r"\(1, 1, 32, 32\) by steepest"),
    "always up": ({"steepest": lambda s, g, x: torch.ones_like(g)}, "loss does not rise"),
    "short steps": ({"steepest": lambda s, g, x: g.sign() / 9}, "norm 0.1111 where 1 is needed"),
    "shorter on plains": (
        {"steepest": lambda s, g, x: g / g.abs().amax((1, 2, 3), True).clamp_min(1e-20)},
        "where 1 is needed, of a gradient of about 1e-25",
    ),
    "NaN": ({"length": lambda s, c: L.length(c) * torch.nan, "project": anywhere}, "NaN"),
    "one length for the batch": (
        {"length": lambda s, c: c.abs().amax().expand(len(c))},
        r"something else by length\(\) beside others than alone",
    ),
    "one step for the batch": (
        {"project": lambda s, a, x, r: x + shrunk(L.project(a, x, r) - x, a - x), "is_box": False},
        r"something else by project\(\) beside others than alone",
    ),
    "below 0": ({"length": lambda s, c: -L.length(c), "project": anywhere}, r"length\(\) of -"),
    "square": ({"length": lambda s, c: L.length(c) ** 2}, "another length than half"),
    "a column": ({"length": lambda s, c: L.length(c)[:, None]}, r"shape \(3, 1\) by length"),
    "a number": ({"dual": lambda s, g: 1.0}, r"gives a float by dual\(\)"),
    "far draws": ({"draw": lambda s, z, g: 2 * torch.ones(*z)}, r"draw\(\) of norm 2"),
    "draws of one": ({"draw": lambda s, z, g: torch.zeros(1)}, r"shape \(1,\) by draw"),
    "levels below": ({"levels": -5}, "has -5 levels"),
    "no levels": ({"levels": 0}, "has 0 levels"),
    "half levels": ({"levels": 2.5}, "has 2.5 levels"),
    "too many levels": ({"levels": 2**31}, "has 2147483648 levels"),
    "reach in words": ({"reach": lambda s, n: "far"}, "is 'far' where a number"),
    "reach NaN": ({"reach": lambda s, n: float("nan")}, "is nan where a number"),
    "reach 2": ({"reach": lambda s, n: 2.0}, "another length of ones"),
    "no start": ({"start_radius": lambda s, n: 0}, r"start_radius\(1024\) is 0"),
    "a nameless label": ({"label": None}, "has a label that is no string"),
    "double": ({"project": lambda s, a, x, r: L.project(a, x, r).double()}, "turns float32 into"),
    "one size": (
        {"length": lambda s, c: L.length(c * torch.ones(28, 28))},
        r"takes no images of shape \(1, 32, 32\).*give its class shape = \(C, H, W\)",
    ),
    "no shape": ({"shape": (28, 28)}, r"has shape = \(28, 28\) where \(C, H, W\)"),
    "another shape": (
        {"shape": (1, 8, 8), "length": lambda s, c: L.length(c * torch.ones(28, 28))},
        r"failed \(RuntimeError: .*; repair",
    ),
    "fails": ({"dual": lambda s, g: g / None}, r"failed \(TypeError: .*; repair"),
}


@pytest.fixture
def norm() -> Iterator[Callable[..., str]]:
    def register(kind: type[Linf] = Linf, **changes: Any) -> str:
        named = {"name": "slips", "__module__": __name__, **changes}
        NORMS.register("slips")(type("SlippingNorm", (kind,), named))
        return "slips"

    yield register
    NORMS._registered.pop("slips", None)


@pytest.mark.parametrize("case", NORM_SLIPS)
def test_a_norm_that_slips_is_refused_before_it_is_used(
    case: str, norm: Callable[..., str]
) -> None:
    changes, said = NORM_SLIPS[case]
    name = norm(**changes)
    for use in (load_norm, ThreatModel):
        with pytest.raises(GenrobustError, match=f"the norm 'slips' .*{said}"):
            use(name)
    with pytest.raises(GenrobustError, match=f"the norm 'slips' .*{said}"):
        ThreatModel(NORMS.get(name)())


def test_an_honest_norm_is_tried_once(norm: Callable[..., str]) -> None:
    measured = []

    def length(self: Linf, change: Tensor) -> Tensor:
        measured.append(len(change))
        return L.length(change)

    name = norm(length=length, levels=2**31 - 1)
    assert ThreatModel(name, 0.1).norm.dtype == torch.int32
    tried = len(measured)
    assert tried
    assert load_norm(name) == ThreatModel(name).norm
    assert len(measured) == tried


# Rules


class Told(Rule):
    """Says what the test says."""

    name = "told"
    judges_needed = (0, 0)
    labelled = False
    words = Words(found="{} are there", eligible="Every.", success="Always.")


def told(**answers: Callable[..., Any]) -> Rule:
    methods = {"look": lambda s, images, sources: sources.labels, **answers}
    made: Any = type("ToldSo", (Told,), {**methods, "__module__": __name__})
    found: Told = made()
    return found


VERDICTS: dict[str, tuple[Callable[..., Any], str]] = {
    "bools": (
        lambda s, x, o: torch.ones(len(x)).bool(),
        r"verdicts of torch\.bool and shape \(2,\)",
    ),
    "floats": (lambda s, x, o: o.labels.float(), r"verdicts of torch\.float32 and shape"),
    "a column": (lambda s, x, o: o.labels[:, None], r"torch\.int64 and shape \(2, 1\) for 2"),
    "one for all": (lambda s, x, o: o.labels[:1], r"shape \(1,\) for 2 images"),
    "nothing": (lambda s, x, o: None, r"verdicts of NoneType for 2 images"),
    "99": (lambda s, x, o: o.labels + 99, r"the verdict 99, and its classes are 0 to 1"),
    "2": (lambda s, x, o: o.labels + CHANGED + 1, r"the verdict 2, and its classes are 0 to 1"),
    "-2": (lambda s, x, o: o.labels + NO_VERDICT - 1, r"the verdict -2, and its classes are"),
    "a fault": (lambda s, x, o: o.labels / None, r"failed \(TypeError: .*careless_plugins.py"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_a_verdict_that_is_none_is_refused_of_either_question(case: str) -> None:
    given, said = VERDICTS[case]
    scorer = Scorer(told(look=given), genrobust.load_model("vae"), 0, classes=2)
    with pytest.raises(GenrobustError, match=f"the rule 'told' .*{said}"):
        scorer.verdict(torch.zeros(3, 2, 1, 1, 1), sources_of([0, 1]))
    scorer = Scorer(told(look_at_input=given), genrobust.load_model("vae"), 0, classes=2)
    with pytest.raises(GenrobustError, match=f"the rule 'told' .*{said}"):
        scorer.keeps_label(torch.zeros(2, 1, 1, 1), sources_of([0, 1]))


def dice(self: Rule, images: Tensor, sources: Sources) -> Tensor:
    return torch.randint(2, (len(images),))


def of_the_batch(self: Rule, images: Tensor, sources: Sources) -> Tensor:
    light = images.flatten(1).mean(1)
    return torch.where(light < light.mean(), CHANGED, KEPT)


def writes_images(self: Rule, images: Tensor, sources: Sources) -> Tensor:
    return (images.sub_(1).flatten(1).sum(1) > 0).long()


def writes_sources(self: Rule, images: Tensor, sources: Sources) -> Tensor:
    return sources.labels.zero_()


def drawn_elsewhere() -> Callable[..., Tensor]:
    own = torch.Generator().manual_seed(0)
    return lambda self, images, sources: torch.randint(2, (len(images),), generator=own)


TRIED: dict[str, tuple[Callable[..., Tensor], bool, str]] = {
    "draws": (dice, False, r"gave other verdicts by its {}\(\) .*draws = True"),
    "draws from its own": (drawn_elsewhere(), True, r"gave other verdicts by its {}\(\) .*torch's"),
    "goes by the batch": (
        of_the_batch,
        False,
        r"gave an image another verdict by its {}\(\) beside",
    ),
    "writes to the images": (writes_images, False, r"wrote by its {}\(\) to the images"),
    "writes to the sources": (
        writes_sources,
        False,
        r"wrote by its {}\(\) to the images or source",
    ),
}


@pytest.mark.parametrize("question", ["look", "look_at_input"])
@pytest.mark.parametrize("case", TRIED)
def test_a_rule_is_tried_before_its_verdicts_count(case: str, question: str) -> None:
    answer, draws, said = TRIED[case]
    scorer = Scorer(told(draws=draws, **{question: answer}), genrobust.load_model("vae"), 0)
    sources = replace(sources_of(range(40)), labels=torch.ones(40).long())
    x = torch.linspace(0.5, 1, 40).view(40, 1, 1, 1)
    with pytest.raises(GenrobustError, match="the rule 'told' " + said.format(question)):
        scorer.try_rule(x, x.clone(), sources)


def test_a_rule_that_draws_as_it_says_stands_its_trial() -> None:
    scorer = Scorer(told(look=dice, draws=True), genrobust.load_model("vae"), 0, classes=2)
    x = torch.ones(40, 1, 1, 1)
    scorer.try_rule(x, x, sources_of(range(40)))


def test_a_rule_that_slips_gives_no_score(
    tiny_vae: GenerativeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Dice", (Told,), {"name": "dice", "look": dice, "__module__": __name__})
    monkeypatch.setitem(RULES._registered, "dice", kind)
    pictures = genrobust.load_images("digits").take(range(40))
    how: dict[str, Any] = {"rule": "dice", "attacks": ["noise"], "eps": [0.1], "workers": 1}
    with pytest.raises(GenrobustError, match="the rule 'dice' gave other verdicts"):
        genrobust.bench(tiny_vae, data=pictures, **how)


def test_every_class_and_no_verdict_are_verdicts() -> None:
    wanted = torch.tensor([KEPT, CHANGED, NO_VERDICT])
    rule = told(look=lambda *_: wanted, look_at_input=lambda *_: wanted)
    scorer = Scorer(rule, genrobust.load_model("vae"), 0, classes=2)
    x, sources = torch.zeros(3, 1, 1, 1), sources_of([0, 1, 2])
    assert torch.equal(scorer.verdict(x[None], sources), wanted)
    assert torch.equal(scorer.input_verdict(x, sources), wanted)


def test_the_scorer_of_a_suite_knows_the_classes_of_its_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite, images = load_suite("digits"), genrobust.load_images("digits")
    judges, model = [genrobust.load_judge("digits", "lenet")], genrobust.load_model("vae")
    assert scorer_of(suite, judges, model, 0, images).classes == 10
    slips = {
        "look": lambda *_: None,
        "__init__": lambda self, judges: 1 / 0,
        "__module__": __name__,
    }
    monkeypatch.setitem(RULES._registered, "told", type("Slipping", (Told,), slips))
    with pytest.raises(GenrobustError, match=r"the rule 'told' failed \(ZeroDivisionError"):
        scorer_of(suite.model_copy(update={"rule": "told"}), [], model, 0, images)


# Executors


class Done(Work[str]):
    """Done once it is computed; or it has a bug."""

    def __init__(self, bug: bool = False) -> None:
        self.bug, self.result = bug, ""

    @property
    def key(self) -> str:
        return "work"

    def compute(self, cancelled: Callable[[], bool] = lambda: False) -> bool:
        if self.bug:
            load_norm(NO_NORM)
        self.result = "done"
        return True

    def found(self) -> str | None:
        return self.result or None


class Runs(Executor):
    """Runs as the test says."""

    elsewhere = False
    does: ClassVar[Callable[..., Any]]

    def run(self, tasks: Any, workers: int) -> Generator[str, None, None]:
        keys: Generator[str, None, None] = type(self).does(tasks)
        return keys


def computes(tasks: Any) -> Generator[str, None, None]:
    for task in tasks:
        task.compute()
        yield task.key


def computes_and_fails(tasks: Any) -> Generator[str, None, None]:
    yield from computes(tasks)
    raise ValueError("boom")


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda tasks: None, r"gave a NoneType by its run\(\); let it yield the key"),
        (lambda tasks: [task.key for task in tasks], r"gave a list by its run\(\)"),
        (lambda tasks: tasks.nothing, r"failed \(AttributeError: .*careless_plugins.py, line"),
        (computes_and_fails, r"failed \(ValueError: boom; test_careless_plugins.py, line"),
    ],
    ids=["nothing", "a list", "fails", "fails at the end"],
)
def test_an_executor_that_slips_is_named(
    does: Callable[..., Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Slipping", (Runs,), {"does": staticmethod(does)})
    monkeypatch.setitem(EXECUTORS._registered, "slips", kind)
    with pytest.raises(GenrobustError, match=f"the executor 'slips' {said}"):
        list(results([Done()], "slips", 1))


def test_a_bug_in_the_work_of_an_executor_from_outside_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = type("Right", (Runs,), {"does": staticmethod(computes)})
    monkeypatch.setitem(EXECUTORS._registered, "right", kind)
    assert list(results([Done()], "right", 1)) == [(0, "done")]
    with pytest.raises(AttributeError):
        list(results([Done(bug=True)], "right", 1))


# Data sets


class Dots:
    """Loads what the test says."""

    name = "dots"
    classes = ("few", "many")
    image_shape = (1, 8, 8)
    loads: ClassVar[Callable[..., Any]]

    def load(self, split: str, root: Path | None) -> Images:
        found: Images = type(self).loads()
        return found


def no_disk() -> Any:
    raise OSError("no disk")


@pytest.mark.parametrize(
    ("loads", "said"),
    [
        (no_disk, r"failed \(OSError: no disk; test_careless_plugins.py, line"),
        (lambda: "x", r"gave a str by its load\(\); let it return genrobust\.data\.Images"),
        (lambda: None, r"gave a NoneType by its load\(\)"),
        (lambda: torch.zeros(2, 1, 8, 8), r"gave a Tensor by its load\(\)"),
    ],
    ids=["fails", "a string", "nothing", "a tensor"],
)
@pytest.mark.parametrize("as_class", [True, False])
def test_a_data_set_that_slips_is_named(
    loads: Callable[..., Any], said: str, as_class: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Slipping", (Dots,), {"loads": staticmethod(loads)})
    monkeypatch.setitem(DATASETS._registered, "dots", kind if as_class else kind())
    for use in (genrobust.load_images, lambda name: Reference.parse(name).pictures("test", None)):
        with pytest.raises(GenrobustError, match=f"the data set 'dots' {said}"):
            use("dots")


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        ({"classes": 2}, "2 as its classes; give names"),
        ({"classes": "few"}, "'few' as its classes"),
        ({"classes": None}, "None as its classes"),
        ({"image_shape": 8}, r"8 as its image_shape; give \(channels, height, width\)"),
        ({"image_shape": (8, 8)}, r"\(8, 8\) as its image_shape"),
        ({"image_shape": (1, 8, 8.0)}, r"\(1, 8, 8\.0\) as its image_shape"),
    ],
)
def test_what_a_data_set_says_of_itself_is_of_the_right_kind(
    slip: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS._registered, "dots", type("Slipping", (Dots,), slip))
    with pytest.raises(GenrobustError, match=f"the data set 'dots' has {said}"):
        genrobust.load_images("dots")


def test_a_data_set_whose_class_makes_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("Slipping", (Dots,), {"__init__": lambda self: no_disk()})
    monkeypatch.setitem(DATASETS._registered, "dots", kind)
    with pytest.raises(GenrobustError, match=r"the data set 'dots' failed \(OSError: no disk"):
        genrobust.load_images("dots")
