"""What the bridges share: the model and judge as one classifier, kept apart from all else."""

from __future__ import annotations

import dataclasses
import inspect
import random
from abc import abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from genrobust.attacks.base import Attack
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError, telling, unknown_name
from genrobust.judges.judge import Judge
from genrobust.models.model import GenerativeModel, Surrogate
from genrobust.objectives.classifier import deployed_margin
from genrobust.optimizers import Minimum, Problem
from genrobust.seeding import GENERATORS, generators_kept, seed_of, seeded
from genrobust.threat import ThreatModel

#: Packages that some attacks need and their libraries do not install: the extra ``bridges``.
EXTRA = ("cma", "multiprocess", "numba")


class Composed(nn.Module):
    """Images to the judge's logits on their reconstructions; counts images and gradients.

    It has no parameters or submodules to a library that looks for them, so that none is moved,
    trained or changed to another mode.
    """

    def __init__(
        self,
        model: GenerativeModel,
        judge: Judge,
        path: tuple[Surrogate, float],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.images = self.gradients = 0
        self._parts = (model, judge, path, dtype)  # in a tuple, where torch sees no submodules
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        model, judge, (kind, temperature), dtype = self._parts
        wants_gradient = x.requires_grad and torch.is_grad_enabled()
        x = x.to(dtype)
        deployed = kind == "deployed"
        if wants_gradient and deployed and model.deploy is not None:
            raise GenrobustError(
                f"'{model.name}' has a deployed path of its own (deploy=), which is not to be "
                "differentiated; pass surrogate='softmax', or choose an attack without gradients"
            )
        # What the model draws or seeds is nothing to the library, whose stream goes on untouched.
        with seeded(x.device, "model", torch.initial_seed(), self.images):
            image = model.reconstruct(x) if deployed else model.surrogate(x, kind, temperature)
        logits = judge.logits(image)
        self.images += len(x)
        if not logits.requires_grad:
            if wants_gradient:
                advice = (
                    "pass surrogate='softmax' or surrogate='straight-through'"
                    if model.differentiable
                    else "choose an attack that needs none, such as 'square'"
                )
                raise GenrobustError(f"no gradient reaches the image on the {kind} path; {advice}")
            return logits
        logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.gradients += len(gradient)


@dataclass(frozen=True, kw_only=True)
class Bridge(Attack):
    """An attack of another library on the model followed by the attacker's judge.

    The library's settings are fields here, under its names and with its defaults. Norm, radius and
    goal come from the threat model and the batch. The library sees the deployed path, as a user of
    it would show it, unless ``surrogate`` says otherwise. What it returns is moved into the ball
    and the box: an attack that looks for the smallest change fails where that lies outside the
    ball, and is scored on the projected image. A sample for which the library gives NaN, or finds
    no point to start from, keeps its source.

    The libraries count nothing, so images that pass the model and gradients that reach the judge's
    logits are counted here, and shared out evenly among the samples (their sums are exact). They
    treat a batch as a whole and draw from global generators: these are seeded from the seed and
    all sample ids, and put back afterwards, so that a result depends on the batch it is in.

    Args:
        surrogate: the path the library attacks.
        temperature: of the softmax surrogate.
    """

    needs_judge = True
    draws_globally = True
    #: The library's class.
    wrapped: ClassVar[type]
    #: Settings that have no default.
    required: ClassVar[tuple[str, ...]] = ()

    surrogate: Surrogate = "deployed"
    temperature: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        if self.surrogate not in get_args(Surrogate):
            raise unknown_name("surrogate", self.surrogate, get_args(Surrogate))
        for setting in self.required:
            if getattr(self, setting) is None:
                raise GenrobustError(
                    f"the attack '{self.name}' needs the setting '{setting}'; its library has no "
                    "default for it"
                )

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        batch = context.batch
        assert batch.judge is not None, "attacks check that they have a judge"
        problem = Problem.of(deployed_margin, context)
        x_adv = batch.x
        if threat.eps > 0:
            path = (self.surrogate, self.temperature)
            composed = Composed(context.model, batch.judge, path, batch.x.dtype)
            with _alone(batch, context.model.module, batch.judge.module):
                found = self._run(composed, batch, threat).to(batch.x)
            usable = found.flatten(1).isfinite().all(1).view(-1, 1, 1, 1)
            x_adv = threat.project(torch.where(usable, found, batch.x), batch.x)
            problem.forwards.copy_(_share(composed.images, problem.forwards))
            problem.backwards.copy_(_share(composed.gradients, problem.backwards))
        minimum = Minimum(problem, x_adv)
        minimum.replace(problem.index, x_adv, problem.loss(x_adv))
        return problem, minimum

    @abstractmethod
    def generate(self, composed: Composed, batch: Batch, threat: ThreatModel) -> Tensor:
        """What the library makes of the batch, (B, C, H, W), not yet projected."""

    def library_settings(self) -> dict[str, Any]:
        """The fields that the library's class takes."""
        own = {field.name for field in dataclasses.fields(Bridge)}
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in own
        }

    def _run(self, composed: Composed, batch: Batch, threat: ThreatModel) -> Tensor:
        try:
            return self.generate(composed, batch, threat)
        except GenrobustError:
            raise
        except ModuleNotFoundError as problem:
            package = (problem.name or "").split(".")[0]
            source = '"genrobust[bridges]"' if package in EXTRA else package
            raise GenrobustError(
                f"the attack '{self.name}' needs the package '{package}'; install it with: pip "
                f"install {source}"
            ) from problem
        except Exception as problem:
            reason = telling(str(problem)) or "no reason given"
            raise GenrobustError(
                f"the attack '{self.name}' failed in its library ({type(problem).__name__}: "
                f"{reason}); check its settings, or choose another attack"
            ) from problem


def call_seed(batch: Batch) -> int:
    """What the global generators are seeded with while a library runs, below 2^32."""
    return seed_of("bridge", batch.seed, batch.sample_ids) % 2**32


def fields_of(wrapped: type, hidden: Collection[str]) -> tuple[list[Any], tuple[str, ...]]:
    """The parameters of a class as dataclass fields, and those without a default.

    ``hidden`` are those that the bridge itself gives.
    """
    found: list[Any] = []
    required = []
    # Without parameters of its own a class shows those of object: *args and **kwargs.
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for name, parameter in inspect.signature(wrapped).parameters.items():
        if name in hidden or parameter.kind not in plain:
            continue
        default = parameter.default
        if default is parameter.empty:
            required.append(name)
            default = None
        if isinstance(default, (list, dict, set)):
            raise TypeError(f"{wrapped.__name__} shares its default of {name} among its objects")
        found.append((name, Any, dataclasses.field(default=default)))
    return found, tuple(required)


@contextmanager
def _alone(batch: Batch, *modules: nn.Module) -> Iterator[None]:
    """Seed every global generator, freeze the weights, and put all back as it was."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    seed = call_seed(batch)
    with GENERATORS, generators_kept(batch.x.device), torch.enable_grad():
        try:
            for parameter in parameters:
                parameter.requires_grad_(False)
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)


def _share(total: int, like: Tensor) -> Tensor:
    """A total shared out among the samples, the first ones taking what is left over."""
    each, rest = divmod(total, len(like))
    return each + (torch.arange(len(like), device=like.device) < rest).to(like)
