"""The trial of a part from outside: of a probe's codes it answers as its contract says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.plugins import blamed, is_ours
from genrobust.posterior.base import FREE, Discrete, Part, titled
from genrobust.seeding import generator

#: By how much of the largest number two that are to be the same may differ: codes may be in half
#: precision.
OFF = 0.01


def try_part(part: Part, count: int, differentiable: bool) -> None:
    """Assert that a part that does not come with genrobust gives what is asked of parts.

    Gradients are those with respect to the tensors that it holds, whatever its encoder is.

    Args:
        part: what an encoder gave for a batch.
        count: how many images that were.
        differentiable: whether attacks may take gradients of the model at all.

    Raises:
        GenrobustError: it does not.
    """
    if is_ours(type(part)):
        return
    with blamed(titled(part), type(part)), torch.enable_grad():
        _Trial(part, count, differentiable).hold()


class _Trial:
    """One part, and its leaves: copies of the tensors that it holds, of which gradients are taken.

    A ``name`` is of what is asked, such as ``"mode()"``.
    """

    def __init__(self, part: Part, count: int, differentiable: bool) -> None:
        self._who, self._count = titled(part), count
        self._require(isinstance(getattr(part, "name", None), str), "has no name that is a string")
        for name in part.__dict__:
            clear = not callable(getattr(Part, name, None))
            self._require(clear, f"holds '{name}' where parts have {name}(): rename that field")
        self._part = part.map(_leaf)
        self._leaves = [tensor for tensor in self._part.tensors() if tensor.requires_grad]
        self._differentiable = differentiable and bool(self._leaves)

    def hold(self) -> None:
        part = self._part
        mode = self._batch("mode()", part.mode())
        vector = self._batch("vector()", part.vector())
        self._require(vector.ndim == 2, f"gives {_told(vector)} by vector() where (B, n) is needed")
        self._require_gradient("vector()", vector, some=True)
        self._stand_in("relaxed()", part.relaxed(1.0), mode)
        through = self._stand_in("straight_through()", part.straight_through(), mode)
        self._require_mode("straight_through()", through, mode)
        noise = part.draw_noise(generator("part", "noise"))
        self._code("rsample()", part.rsample(noise, 0.67), mode)
        self._code("sample()", part.sample(noise), mode)
        self._columns("kl_to_prior()", part.kl_to_prior())
        self._columns("means()", part.means())
        self._require(isinstance(part.describe(), str), "gives no string by describe()")
        self._try_distances()
        if isinstance(part, Discrete):
            self._try_switches(part, mode)
        else:
            self._columns("tokens()", part.tokens(), whole=True)
        each = [part.map(partial(_at, i)) for i in range(self._count)]
        self._require_alone("mode()", [one.mode() for one in each], mode)
        self._require_alone("vector()", [one.vector() for one in each], vector)

    def _try_distances(self) -> None:
        other = self._part.map(lambda tensor: tensor.detach().flip(0))
        distance = self._numbers("squared_wasserstein2()", self._part.squared_wasserstein2(other))
        below = bool((distance < 0).any())
        self._require(not below, "gives a number below 0 by squared_wasserstein2()")
        self._require_gradient("squared_wasserstein2()", distance)
        try:
            divergence = self._part.kl(other)
        except (GenrobustError, NotImplementedError):
            return  # it has none, and says so
        self._numbers("kl()", divergence)
        if self._part.has_density:
            self._require_gradient("kl()", divergence)

    def _try_switches(self, part: Discrete, mode: Tensor) -> None:
        scores = self._batch("scores()", part.scores(), finite=False)
        shaped = scores.ndim == 3
        self._require(shaped, f"gives {_told(scores)} by scores() where (B, T, K) is needed")
        highest = scores.amax(-1)  # an entry that is on no list has -inf
        self._require(bool(highest.isfinite().all()), "gives NaN or infinity by scores()")
        self._require_gradient("scores()", scores)
        tokens = self._columns("tokens()", part.tokens(), whole=True)
        fits = tokens.shape == scores.shape[:2]
        self._require(fits, f"gives {_told(tokens)} by tokens() and {_told(scores)} by scores()")
        deployed = scores.gather(-1, tokens[..., None])[..., 0]
        own = bool((deployed == highest).all())
        self._require(own, "has the highest of scores() elsewhere than tokens() says")
        pinned = self._code("pinned()", part.pinned(tokens), mode)
        self._require_mode("pinned() at its own tokens", pinned, mode)
        free = self._stand_in("pinned()", part.pinned(torch.full_like(tokens, FREE)), mode)
        self._require_mode("pinned() where all are free", free, mode)

    def _batch(self, name: str, found: object, finite: bool = True) -> Tensor:
        self._require(
            isinstance(found, Tensor)
            and found.is_floating_point()
            and found.ndim > 1
            and len(found) == self._count
            and found[0].numel() > 0,
            f"gives {_told(found)} by {name} where floats (B, ...) are needed, B = {self._count}",
        )
        assert isinstance(found, Tensor)
        wrong = ~found.isfinite() if finite else found.isnan()
        self._require(not bool(wrong.any()), f"gives NaN or infinity by {name}")
        return found

    def _code(self, name: str, found: object, mode: Tensor) -> Tensor:
        code = self._batch(name, found)
        self._require(
            code.shape == mode.shape,
            f"gives {_told(code)} by {name} where that of mode() is needed, {tuple(mode.shape)}",
        )
        return code

    def _stand_in(self, name: str, found: object, mode: Tensor) -> Tensor:
        """A code to differentiate through."""
        code = self._code(name, found, mode)
        self._require_gradient(name, code)
        return code

    def _columns(self, name: str, found: object, whole: bool = False) -> Tensor:
        """Numbers of each image, of which there may be none."""
        kind = "int64" if whole else "floats"
        self._require(
            isinstance(found, Tensor)
            and (found.dtype == torch.int64 if whole else found.is_floating_point())
            and found.ndim == 2
            and len(found) == self._count,
            f"gives {_told(found)} by {name} where {kind} (B, n) are needed, B = {self._count}",
        )
        assert isinstance(found, Tensor)
        self._require(not bool(found.isnan().any()), f"gives NaN by {name}")
        return found

    def _numbers(self, name: str, found: object) -> Tensor:
        """One number an image."""
        self._require(
            isinstance(found, Tensor)
            and found.is_floating_point()
            and found.shape == (self._count,),
            f"gives {_told(found)} by {name} where floats (B,) are needed, B = {self._count}",
        )
        assert isinstance(found, Tensor)
        self._require(not bool(found.isnan().any()), f"gives NaN by {name}")
        return found

    def _require_gradient(self, name: str, found: Tensor, some: bool = False) -> None:
        """That a gradient comes through it to what the part holds.

        Args:
            name: of what was asked.
            found: what it gave.
            some: it must not be 0 everywhere, as a softmax's is where a code is sure of itself;
                that is told by flags.
        """
        if not self._differentiable:
            return
        gradients: Sequence[Tensor | None] = ()
        if found.requires_grad:
            # Uneven weights: the sum of what is centred is 0.
            weights = torch.rand(found.shape, generator=generator("part", name)).to(found)
            total = (found.masked_fill(found.isinf(), 0) * weights).sum()
            gradients = torch.autograd.grad(
                total, self._leaves, retain_graph=True, allow_unused=True
            )
        held = [gradient for gradient in gradients if gradient is not None]
        reaches = any(bool(gradient.any()) for gradient in held) if some else bool(held)
        self._require(reaches, f"lets no gradient through {name} to the tensors that it holds")
        number = not any(bool(gradient.isnan().any()) for gradient in held)
        self._require(number, f"has NaN in the gradient of {name}")

    def _require_mode(self, name: str, code: Tensor, mode: Tensor) -> None:
        self._require(_near(code, mode), f"gives other codes by {name} than by mode()")

    def _require_alone(self, name: str, each: Sequence[Tensor], whole: Tensor) -> None:
        alike = all(map(_near, each, whole.split(1)))
        self._require(alike, f"gives an image something else by {name} beside others than alone")

    def _require(self, right: bool, wrong: str) -> None:
        if not right:
            raise GenrobustError(f"{self._who} {wrong}; mend its class, see docs/plugins.md")


def _leaf(tensor: Tensor) -> Tensor:
    own = tensor.detach().clone()
    return own.requires_grad_(own.is_floating_point() or own.is_complex())


def _at(place: int, tensor: Tensor) -> Tensor:
    return tensor[place : place + 1]


def _near(found: Tensor, wanted: Tensor) -> bool:
    most = OFF * float(wanted.detach().abs().max())
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=0, atol=most)


def _told(found: object) -> str:
    if isinstance(found, Tensor):
        return f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
    return f"a {type(found).__name__}"
