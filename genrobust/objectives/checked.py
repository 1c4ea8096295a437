"""Objectives from outside, held to their contract: ours are tested, and are called as they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.batch import Context
from genrobust.errors import GenrobustError
from genrobust.objectives.base import Objective
from genrobust.plugins import blamed, is_ours


@dataclass(frozen=True, eq=False)
class Checked:
    """An objective that is one at each call, or is refused.

    Args:
        objective: a plugin's, or a user's.
        name: what it is registered as, or its class is called.

    Example:
        >>> import genrobust
        >>> from genrobust.attacks import Batch, Context
        >>> x = torch.zeros(2, 1, 32, 32)
        >>> context = Context(genrobust.load_model("vae"), Batch(x, (0, 1)))
        >>> Checked(lambda x_adv, context: x_adv.mean(), "mine")(x, context)
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: the objective 'mine' gave a tensor of shape () and ...
    """

    objective: Objective
    name: str

    def __call__(self, x_adv: Tensor, context: Context) -> Tensor:
        """The loss of each image, (B,).

        Raises:
            GenrobustError: it failed, wrote to the images, or gave something else; no gradient of
                it reaches the images of a model that has one.
        """
        given = x_adv.detach().clone()
        with blamed(f"the objective '{self.name}'", self.objective):
            loss = self.objective(x_adv, context)
        if not torch.allclose(x_adv.detach(), given, rtol=0, atol=0, equal_nan=True):
            raise self._fault("wrote to the images that it was given", "work on x_adv.clone()")
        self._require_losses(loss, len(x_adv))
        followed = torch.is_grad_enabled() and x_adv.requires_grad
        if followed and context.model.differentiable and not loss.requires_grad:
            raise self._fault(
                "has no gradient that reaches the images",
                "look at context.model.surrogate, without torch.no_grad, .detach and numpy",
            )
        return loss

    def require_gradient(self, gradient: Tensor) -> None:
        """Assert that a search can follow it.

        Args:
            gradient: of its losses, (B, C, H, W).

        Raises:
            GenrobustError: it is NaN for some image.
        """
        self._require_numbers(gradient.flatten(1), "a gradient of NaN")

    def _require_losses(self, loss: object, count: int) -> None:
        if not isinstance(loss, Tensor):
            kind = f"a {type(loss).__name__}"
        elif loss.shape != (count,) or not loss.is_floating_point():
            kind = f"a tensor of shape {tuple(loss.shape)} and {loss.dtype}"
        else:
            return self._require_numbers(loss.detach()[:, None], "NaN")
        raise self._fault(
            f"gave {kind} for {count} images",
            "return a float for each, (B,), such as loss.flatten(1).mean(1)",
        )

    def _require_numbers(self, values: Tensor, what: str) -> None:
        wrong = int(values.isnan().any(1).sum())
        if wrong:
            raise self._fault(
                f"gave {what} for {wrong} of {len(values)} images, by which no attack can go",
                "be a number at any image: mind logarithms, roots and quotients, such as of 0",
            )

    def _fault(self, what: str, advice: str) -> GenrobustError:
        return GenrobustError(f"the objective '{self.name}' {what}; let it {advice}")


def checked(objective: Objective, name: str | None = None) -> Objective:
    """The objective, one from outside as one that is checked.

    >>> from genrobust.objectives.latent import LatentDistance
    >>> checked(LatentDistance())
    LatentDistance()
    """
    if is_ours(objective):
        return objective
    called = str(getattr(objective, "__name__", type(objective).__name__))
    return Checked(objective, name or called)
