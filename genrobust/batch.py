"""What is attacked, and what objectives may know of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.judges.judge import Judge
from genrobust.models.model import GenerativeModel
from genrobust.posterior import Posterior

#: What an attack is to reach: the target, or any class but the source's.
Goal = Literal["targeted", "untargeted"]

#: So many references are encoded at once.
CHUNK = 250


@dataclass(frozen=True, eq=False)
class Batch:
    """Images to attack: targeted with ``target_x`` or ``target_labels``, untargeted without both.

    Args:
        x: sources, (B, C, H, W) in [0, 1].
        sample_ids: one a source: with the seed, they key every random draw.
        seed: of the run.
        labels: the sources' classes, (B,) int64.
        target_x: images whose reconstructions to imitate, (B, C, H, W) in [0, 1].
        target_labels: their classes, (B,) int64.
        judge: the attacker's classifier.
        references: labelled training images, (N, C, H, W) and (N,), for attacks that aim at a
            class's mean or that train a probe.
        codes: where a batch is attacked by many, the references' codes by model, once an attack
            has asked for them; None keeps none.

    Example:
        >>> batch = Batch(torch.rand(3, 1, 8, 8), sample_ids=(4, 7, 9))
        >>> len(batch), batch.targeted, batch[torch.tensor([True, False, True])].sample_ids
        (3, False, (4, 9))
    """

    x: Tensor
    sample_ids: tuple[int, ...]
    seed: int = 0
    labels: Tensor | None = None
    target_x: Tensor | None = None
    target_labels: Tensor | None = None
    judge: Judge | None = None
    references: tuple[Tensor, Tensor] | None = None
    codes: dict[GenerativeModel, Tensor] | None = None

    @property
    def targeted(self) -> bool:
        return self.target_x is not None or self.target_labels is not None

    @property
    def goal(self) -> Goal:
        """What it asks for."""
        return "targeted" if self.targeted else "untargeted"

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor) -> Batch:
        """The batch of the samples at ``index`` (a mask or positions)."""

        def take(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[index]

        ids = torch.tensor(self.sample_ids)[index.cpu()].tolist()
        return replace(
            self,
            x=self.x[index],
            sample_ids=tuple(ids),
            labels=take(self.labels),
            judge=None if self.judge is None else self.judge.of(index),
            target_x=take(self.target_x),
            target_labels=take(self.target_labels),
        )

    def untargeted(self) -> Batch:
        """The same sources without their targets."""
        return replace(self, target_x=None, target_labels=None)

    def aimed(self, goal: Goal) -> Batch:
        """What is given to an attack with a goal: without the targets where it has none."""
        return self if goal == "targeted" else self.untargeted()


@dataclass(frozen=True, eq=False)
class Context:
    """A batch and what the model makes of its sources and targets, computed once.

    Reconstructions are deployed ones; nothing here carries gradients.

    Example:
        >>> import genrobust
        >>> x = genrobust.load_images("digits").take([0, 1])
        >>> context = Context(genrobust.load_model("vae"), Batch(x, (0, 1)))
        >>> context.source_reconstruction.shape, context.source_posterior.means().shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 10]))
    """

    model: GenerativeModel
    batch: Batch

    @cached_property
    def source_posterior(self) -> Posterior:
        return self._posterior(self.batch.x)

    @cached_property
    def target_posterior(self) -> Posterior:
        return self._posterior(self.target_x)

    @cached_property
    def source_reconstruction(self) -> Tensor:
        return self._reconstruction(self.batch.x)

    @cached_property
    def target_reconstruction(self) -> Tensor:
        return self._reconstruction(self.target_x)

    @torch.no_grad()
    def reference_codes(self) -> Tensor:
        """Of the references, (N, n); of a random model drawn anew at each call."""
        assert self.batch.references is not None, "attacks check that they have references"
        kept = {} if self.batch.codes is None or self.model.draws > 1 else self.batch.codes
        if self.model not in kept:
            chunks = self.batch.references[0].to(self.batch.x).split(CHUNK)
            kept[self.model] = torch.cat([self.model.encode(chunk).vector() for chunk in chunks])
        return kept[self.model]

    def __getitem__(self, index: Tensor) -> Context:
        """The context of the samples at ``index``; what was computed is kept."""
        part = Context(self.model, self.batch[index])
        for name in (
            *("source_posterior", "target_posterior"),
            *("source_reconstruction", "target_reconstruction"),
        ):
            if name in self.__dict__:
                part.__dict__[name] = self.__dict__[name][index]
        return part

    @property
    def target_x(self) -> Tensor:
        """The target images.

        Raises:
            GenrobustError: there are none, as where labels alone say what to aim at.
        """
        if self.batch.target_x is None:
            raise GenrobustError(
                "there is no target image to aim at; pass target=, or choose an attack that aims "
                "at target_labels, such as 'classifier'"
            )
        return self.batch.target_x

    @torch.no_grad()
    def _posterior(self, x: Tensor) -> Posterior:
        return self.model.encode(x).detach()

    @torch.no_grad()
    def _reconstruction(self, x: Tensor) -> Tensor:
        return self.model.reconstruct(x)
