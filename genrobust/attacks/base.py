"""The contract of attacks: the base class checks, counts and asserts; a subclass only searches."""

from __future__ import annotations

import dataclasses
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from genrobust import drawing
from genrobust.arguments import text, whole
from genrobust.attacks.given import unchanged
from genrobust.attacks.settings import settled
from genrobust.batch import Batch, Context, Goal
from genrobust.distance import euclidean
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.metrics.distances import l2, linf
from genrobust.models.model import GenerativeModel
from genrobust.models.passes import counted
from genrobust.modes import outside, plain_modes
from genrobust.norms import ANY, Norm
from genrobust.optimizers.problem import Minimum, Problem
from genrobust.plugins import blamed, is_ours
from genrobust.posterior import Posterior
from genrobust.registry import Registry
from genrobust.seeding import seeded
from genrobust.threat import ThreatModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: The labels that a classifier is to be wrong about, or to be led to.
LABELS: dict[Goal, str] = {"targeted": "target_labels", "untargeted": "labels"}
#: What a batch has only where success goes by labels.
LABELLED = {"judge", *LABELS.values()}


#: Passes of a source that need no counting: of it, its target and what they show in the end.
UNCOUNTED = 8


def uncounted(context: Context) -> int:
    """How many images may go through the model uncounted: those, and the references."""
    batch = context.batch
    references = 0 if batch.references is None else len(batch.references[0])
    return (UNCOUNTED * len(batch) + references) * context.model.draws


@dataclass(frozen=True, eq=False)
class AttackResult:
    """What an attack found, one entry a source.

    Args:
        x_adv: adversarial images, (B, C, H, W), inside the threat model.
        loss: the objective's value at ``x_adv``, (B,); lower is better for the attacker.
        success: the attacker's own view on the deployed path, (B,) bool: with a judge, the
            reconstruction's class is not the source's and, targeted, is the target's; without, it
            is nearer to the target's reconstruction than to the source's. None where neither can be
            told. Scores do not use it.
        forwards: passes through the model, (B,) int64.
        backwards: gradients taken, (B,) int64.
        context: the model and the batch that were attacked, for :meth:`show`; not kept in a file.

    Example:
        >>> import genrobust
        >>> model, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
        >>> found = genrobust.attack("noise", model, x, eps=0.1)
        >>> found.x_adv.shape, found.loss.shape, found.backwards
        (torch.Size([2, 1, 32, 32]), torch.Size([2]), tensor([0, 0]))
    """

    x_adv: Tensor
    loss: Tensor
    success: Tensor | None
    forwards: Tensor
    backwards: Tensor
    context: Context | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """What is kept of it in a file: not the model, which may be made of functions."""
        return {**vars(self), "context": None}

    @torch.no_grad()
    def show(self, most: int = 10, *, figure: Figure | None = None) -> Figure:
        """The sources, the attacked images, the change, and the deployed reconstructions of both.

        Above each, the L-inf and the L2 norm of the change, in pixel units where white is 1.

        Args:
            most: how many of the sources, from the first.
            figure: matplotlib's figure, or part of one, to draw on; default a new one.

        Returns:
            The figure; ``figure.savefig("it.pdf")`` gives it for a paper.

        Raises:
            GenrobustError: the result does not come from an attack's call; nothing is to be shown.

        Example:
            >>> import genrobust
            >>> model, x = genrobust.load_model("vae"), genrobust.load_images("digits").take([0, 1])
            >>> found = genrobust.attack("noise", model, x, target=x.flip(0))
            >>> len(found.show().axes)  # five rows, a column a source
            10
        """
        if whole("most", most) < 1:
            raise GenrobustError(f"most is {most}; show 1 source or more")
        if self.context is None or not len(self.x_adv):
            raise GenrobustError(
                "there is nothing to show: the result holds no images, or not what was attacked; "
                "take what genrobust.attack returns"
            )
        model, x = self.context.model, self.context.batch.x[:most]
        x_adv = self.x_adv[:most]
        with seeded(x.device, "show"):
            clean, moved = model.reconstruct(x), model.reconstruct(x_adv)
        words, changes = drawing.change(x, x_adv)
        rows = {
            "source": list(x),
            "attacked": list(x_adv),
            words: changes,
            "reconstruction": list(clean),
            "of the attacked": list(moved),
        }
        sizes = zip(linf(x_adv, x).tolist(), l2(x_adv, x).tolist(), strict=True)
        titles = [f"L∞ {largest:.3g}\nL2 {length:.3g}" for largest, length in sizes]
        return drawing.pictures(rows, titles, figure)


@dataclass(frozen=True)
class Attack(ABC):
    """A published attack. Its fields are its settings, with the paper's values as defaults.

    A subclass states what it is and implements :meth:`search`::

        @ATTACKS.register("my-attack")
        @dataclass(frozen=True)
        class MyAttack(Attack):
            name = "my-attack"
            paper = "Doe 2026"
            goals = ("targeted",)
            norms = ("any",)
            steps: int = 100

            def search(self, context, threat):
                problem = Problem.of(LatentDistance(), context)
                return problem, apgd(problem, context.batch.x, threat, self.steps)

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch, make_attack
        >>> recipe = make_attack("latent", {"steps": 5})
        >>> recipe.paper, recipe.goals, recipe.settings()["steps"]
        ('Kos, Fischer & Song 2018', ('targeted', 'untargeted'), 5)
        >>> x = genrobust.load_images("digits").take([0, 1])
        >>> batch = Batch(x, (0, 1), target_x=x.flip(0))
        >>> recipe(genrobust.load_model("vae"), batch, ThreatModel("linf", 0.1)).x_adv.shape
        torch.Size([2, 1, 32, 32])
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    #: What it can aim at.
    goals: ClassVar[tuple[Goal, ...]] = ("targeted", "untargeted")
    #: The names of the norms that it works under; ``("any",)`` where its mathematics knows the norm
    #: only through the threat model and its :class:`~genrobust.norms.Norm`. There is no default.
    norms: ClassVar[tuple[str, ...]] = ()
    #: Whether it needs the attacker's judge, and labels for it to be wrong about.
    needs_judge: ClassVar[bool] = False
    #: Whether it needs labelled training images.
    needs_references: ClassVar[bool] = False
    #: Whether it has steps in units of the ball, so that the box alone will not do.
    needs_ball: ClassVar[bool] = False
    #: Whether a sample's result depends on the others in its batch, as a universal change does.
    couples_samples: ClassVar[bool] = False
    #: Whether it draws from the process's generators, which nothing else may draw from meanwhile.
    draws_globally: ClassVar[bool] = False
    #: The libraries that search in its place, as they are imported: a run is of their releases too.
    libraries: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Check what the class declares: a string would be taken for its letters.

        Raises:
            GenrobustError: ``goals``, ``norms`` or ``libraries`` is no tuple of names, or the goals
                are none of an attack.
        """
        super().__init_subclass__(**options)
        for field_name, example in _DECLARED.items():
            given = getattr(cls, field_name)
            names = isinstance(given, tuple) and all(isinstance(one, str) for one in given)
            known = field_name != "goals" or (given and set(given) <= set(LABELS))
            if not (names and known):
                raise GenrobustError(
                    f"the attack '{getattr(cls, 'name', cls.__name__)}' declares {field_name} = "
                    f"{given!r}; give a tuple, such as {example}"
                )

    def applies_to(self, posterior: Posterior) -> bool:
        """Whether a model with such posteriors can be attacked; ensembles leave the rest out."""
        return True

    @abstractmethod
    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        """Find images inside the threat model; return them with the problem that counted."""

    def __call__(self, model: GenerativeModel, batch: Batch, threat: ThreatModel) -> AttackResult:
        """Attack a batch.

        Raises:
            GenrobustError: the attack cannot do what is asked (goal, norm, what it needs), changed
                what it was given, did not give an image and a loss a source, or left the threat
                model.
        """
        self.refuse_impossible(batch, threat)
        context, sources = Context(model, batch), batch.x
        key = ("attack", self.name, batch.seed, batch.sample_ids, threat.eps)
        who = f"the attack '{self.name}'"
        # Ours are tested, and the copies take time.
        theirs = not is_ours(self)
        watched = unchanged(who, context) if theirs else nullcontext()
        # What a random model draws is keyed too, by the batch it is attacked in.
        with model.keyed(*key):
            modes = plain_modes() if theirs else nullcontext()
            with blamed(who, self), watched, modes, counted() as passes:
                found = self.search(context, threat)
            problem, minimum = self._whole(found, sources)
            if theirs and passes.images > int(problem.forwards.sum()) + uncounted(context):
                warnings.warn(
                    f"{who} passes more images through the model than it counts, and what a record "
                    "says of its cost is too low; take losses and gradients from one Problem, "
                    "which counts",
                    GenrobustWarning,
                    stacklevel=2,
                )
            threat.check(minimum.x, sources, who)
            success = attacker_success(context, minimum.x)
        counts = problem.forwards, problem.backwards
        return AttackResult(minimum.x, minimum.loss, success, *counts, context)

    def _whole(self, found: Any, sources: Tensor) -> tuple[Problem, Minimum]:
        """What a search gave, if it is an image and a loss a source."""
        who = f"the attack '{self.name}'"
        kinds = tuple(map(type, found)) if isinstance(found, tuple) else ()
        if len(kinds) != 2 or not (issubclass(kinds[0], Problem) and issubclass(kinds[1], Minimum)):
            raise GenrobustError(
                f"{who} returned {_told(found)} from its search; return (problem, minimum), as in "
                "the example of genrobust.attacks.Attack"
            )
        problem, minimum = found
        if not isinstance(minimum.x, Tensor) or _kind_of(minimum.x) != _kind_of(sources):
            raise GenrobustError(
                f"{who} gave as images {_told(minimum.x)}, and its sources are {_told(sources)}; "
                "let its search give one image like it for each source"
            )
        loss, each = minimum.loss, sources.shape[:1]
        if not isinstance(loss, Tensor) or loss.shape != each or not loss.is_floating_point():
            raise GenrobustError(
                f"{who} gave as loss {_told(loss)} for {len(sources)} sources; let its search give "
                "one float for each, (B,)"
            )
        if loss.isnan().any():
            raise GenrobustError(
                f"{who} gave a loss that is NaN; let its search give what its images have, such as "
                "problem.loss(x_adv), or inf for a source that it left alone"
            )
        for name in ("forwards", "backwards"):
            count = getattr(problem, name)
            whole = isinstance(count, Tensor) and (count.shape, count.dtype) == (each, torch.int64)
            if not whole or bool((count < 0).any()):
                raise GenrobustError(
                    f"{who} counted {name} as {_told(count)} for {len(sources)} sources; return "
                    "the problem of the whole batch, Problem.of(objective, context), which counts"
                )
        minimum.x, minimum.loss = outside(minimum.x.detach()), outside(loss.detach())
        return problem, minimum

    def needs(self, goal: Goal) -> tuple[str, ...]:
        """The batch's fields that it cannot do without, besides the sources.

        They follow from the flags; an attack whose settings or goals decide says so itself.
        """
        if self.needs_judge:
            found: tuple[str, ...] = ("judge", LABELS[goal])
        else:
            found = ("target_x",) if goal == "targeted" else ()
        return (*found, "references") if self.needs_references else found

    @classmethod
    def supports(cls, norm: Norm) -> bool:
        """Whether it works under a norm."""
        return ANY in cls.norms or norm.name in cls.norms

    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        return dataclasses.asdict(self)

    def expected_passes(self) -> int:
        """About how often it puts a source that never falls through the model.

        Only what is said of the time that a run takes depends on it. Steps, restarts, classes and
        the like multiply; an attack whose settings count something else says so itself.
        """
        return math.prod(v for v in self.settings().values() if type(v) is int and v > 1)

    def refuse_impossible(self, batch: Batch, threat: ThreatModel) -> None:
        """Say so if it cannot do what is asked; an attack made of others asks each of them.

        Raises:
            GenrobustError: another goal, norm or radius, or the batch lacks what it needs.
        """
        goal = batch.goal
        if goal not in self.goals:
            wanted = "give it a target" if goal == "untargeted" else "leave the target out"
            raise GenrobustError(f"the attack '{self.name}' is {self.goals[0]} only; {wanted}")
        self.refuse_threat(threat)
        threat.norm.require_shape(batch.x.shape[1:])
        for name in self.needs(goal):
            if getattr(batch, name) is None:
                raise GenrobustError(f"the attack '{self.name}' needs {_WANTED[name]}")

    def refuse_threat(self, threat: ThreatModel) -> None:
        """Say so if it cannot work in the threat model; a runner asks before it starts.

        Raises:
            GenrobustError: another norm, or no ball where its steps need one.
        """
        if not self.supports(threat.norm):
            named = " and ".join(self.norms) or "no norm (its class names none in 'norms')"
            raise GenrobustError(
                f"the attack '{self.name}' works under {named}, not {threat.norm.name}; choose "
                "another norm or attack"
            )
        if self.needs_ball and math.isinf(threat.eps):
            raise GenrobustError(
                f"the attack '{self.name}' needs a finite eps; give one, or choose an attack with "
                "a penalty on the distance, such as 'carlini-wagner'"
            )


#: How what an attack's class declares is written.
_DECLARED = {
    "goals": 'goals = ("targeted",) or ("targeted", "untargeted")',
    "norms": 'norms = ("any",) or ("linf", "l2")',
    "libraries": 'libraries = ("scipy",)',
}


def _kind_of(values: Tensor) -> tuple[object, ...]:
    return values.shape, values.dtype, values.device


def _told(found: object) -> str:
    if isinstance(found, Tensor):
        return f"a tensor of shape {tuple(found.shape)}, {found.dtype}, on {found.device}"
    return "None" if found is None else f"a {type(found).__name__}"


#: The fields of a batch that attacks may need, in a user's words.
_WANTED = {
    "judge": "a judge; pass judge=, such as genrobust.load_judge('mnist', 'lenet')",
    "labels": "the sources' labels; pass labels=",
    "target_labels": "the targets' labels; pass target_labels=",
    "references": "labelled training images; pass references=(images, labels)",
    "target_x": "target images; pass target=",
}


ATTACKS: Registry[type[Attack]] = Registry(
    "attack",
    {
        "noise": "genrobust.attacks.noise:Noise",
        "latent": "genrobust.attacks.latent:Latent",
        "output": "genrobust.attacks.output:Output",
        "damage": "genrobust.attacks.damage:DamageAttack",
        "classifier": "genrobust.attacks.classifier:Classifier",
        "thesis": "genrobust.attacks.thesis:Thesis",
        "code-switch": "genrobust.attacks.code_switch:CodeSwitch",
        "multi-target": "genrobust.attacks.multitarget:MultiTarget",
        "nearest": "genrobust.attacks.nearest:Nearest",
        "neighbours": "genrobust.attacks.neighbours:Neighbours",
        "standard": "genrobust.attacks.standard:Standard",
        "square": "genrobust.attacks.square:Square",
        "stand-in": "genrobust.attacks.stand_in:StandIn",
        "szegedy": "genrobust.attacks.szegedy:Szegedy",
        "fgsm": "genrobust.attacks.fgsm:FGSM",
        "bim": "genrobust.attacks.bim:BIM",
        "pgd": "genrobust.attacks.pgd:PGD",
        "carlini-wagner": "genrobust.attacks.carlini_wagner:CarliniWagner",
        "fmn": "genrobust.attacks.fmn:FMN",
        "sabour": "genrobust.attacks.sabour:Sabour",
        "tabacof": "genrobust.attacks.tabacof:Tabacof",
        "gondim-latent": "genrobust.attacks.gondim:GondimLatent",
        "gondim-output": "genrobust.attacks.gondim:GondimOutput",
        "kos-classifier": "genrobust.attacks.kos:KosClassifier",
        "kos-lvae": "genrobust.attacks.kos:KosLVAE",
        "kos-latent": "genrobust.attacks.kos:KosLatent",
        "willetts-kl": "genrobust.attacks.willetts:WillettsKL",
        "willetts-w2": "genrobust.attacks.willetts:WillettsW2",
        "willetts-output": "genrobust.attacks.willetts:WillettsOutput",
        "camuto": "genrobust.attacks.camuto:Camuto",
        "kuzina-supervised": "genrobust.attacks.kuzina_supervised:KuzinaSupervised",
        "kuzina-linearised": "genrobust.attacks.kuzina_linearised:KuzinaLinearised",
        "kuzina": "genrobust.attacks.kuzina:Kuzina",
        "khan": "genrobust.attacks.khan:Khan",
        "photoguard": "genrobust.attacks.photoguard:PhotoGuard",
        "alma": "genrobust.attacks.universal:Alma",
        "grill": "genrobust.attacks.universal:Grill",
    },
    families={
        "foolbox": "genrobust.attacks.bridges.foolbox:bridge",
        "art": "genrobust.attacks.bridges.art:bridge",
        "objective": "genrobust.attacks.objective:attack_on",
    },
    base=Attack,
)


def make_attack(name: str, settings: Mapping[str, Any] | None = None) -> Attack:
    """The registered attack with these settings.

    Args:
        name: such as ``"latent"``; all of them: ``genrobust list attacks``.
        settings: the attack's own, by name; default the paper's.

    Raises:
        GenrobustError: no such attack or setting; a value of the wrong kind, or none where the
            class has no default.

    Example:
        >>> make_attack("latent", {"steps": 10}).settings()["steps"]
        10
    """
    if isinstance(name, Attack) or callable(name):
        raise GenrobustError(
            f"attack is a {type(name).__name__}; give its name and settings, such as "
            "attack='latent', steps=20; one of your own is a subclass of genrobust.Attack under "
            "@genrobust.attacks.ATTACKS.register('my-attack')"
        )
    kind = ATTACKS.get(text("attack", name, "latent"))
    chosen = settled(name, kind, settings or {})
    with blamed(f"the attack '{name}'", kind):
        return kind(**chosen)


@torch.no_grad()
def attacker_success(context: Context, x_adv: Tensor) -> Tensor | None:
    """What the attacker can tell of its success on the deployed path; see AttackResult."""
    batch = context.batch
    found = context.model.reconstruct(x_adv)
    if batch.judge is not None and batch.target_labels is not None:
        shown = batch.judge.labels(found)
        # A target of the source's own class is shown without an attack.
        moved = True if batch.labels is None else shown != batch.labels
        return (shown == batch.target_labels) & moved
    if batch.judge is not None and batch.labels is not None and not batch.targeted:
        return batch.judge.labels(found) != batch.labels
    if batch.target_x is None:
        return None
    to_target = euclidean(found, context.target_reconstruction)
    return to_target < euclidean(found, context.source_reconstruction)
