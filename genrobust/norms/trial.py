"""The trial of a norm: on a small batch it does what is said of norms, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.foreign import explain
from genrobust.norms import TOLERANCE, Norm, allowed
from genrobust.seeding import generator

#: How many images a norm is tried on, and their shape (C, H, W) if it is for any.
IMAGES, ANY_SHAPE = 3, (1, 32, 32)

#: How large their changes are, so that what is said of one would not do for all.
SIZES = (1.0, 0.7, 0.4)

#: By how much of it a length may be off: norms sum up thousands of rounded numbers.
OFF = 1e-3

#: A part of what the box reaches, as the radius of a ball that it hardly cuts.
PART = 0.1

#: What the gradient is multiplied by: its square need not be a number that a float32 holds.
SCALES = (1.0, -1.0, 1e-25, 1e25)

#: The most steps that a stored perturbation may have a pixel, either way.
MOST_LEVELS = torch.iinfo(torch.int32).max


@torch.no_grad()
def try_norm(norm: Norm) -> None:
    """Assert that a norm measures, projects, steps and draws as its contract says.

    Raises:
        GenrobustError: it does not.
    """
    _try_names_and_numbers(norm)
    x = _drawn(norm, "x", 0.25, 0.75)
    _try_shape(norm, x)
    noise = _drawn(norm, "change", -1, 1) * torch.tensor(SIZES).view(-1, 1, 1, 1)
    _try_length(norm, noise)
    _try_steepest(norm, noise, x)
    _try_project(norm, x, noise)
    # Of black the box leaves only what brightens, which may be longer than the whole change.
    _try_project(norm, torch.zeros_like(x), noise)
    _try_draw(norm)


def _shape(norm: Norm) -> tuple[int, ...]:
    return (IMAGES, *(norm.shape or ANY_SHAPE))


def _drawn(norm: Norm, key: str, low: float, high: float) -> Tensor:
    values = torch.rand(_shape(norm), generator=generator("norm", key), dtype=torch.float32)
    return low + (high - low) * values


def _try_names_and_numbers(norm: Norm) -> None:
    for name in ("name", "label", "ascii_label"):
        _require(norm, isinstance(getattr(norm, name), str), f"has a {name} that is no string")
    right = norm.shape is None or _is_shape(norm.shape)
    needed = "where (C, H, W) or None is needed"
    _require(norm, right, f"has shape = {norm.shape!r} {needed}")
    levels, pixels = norm.levels, math.prod(_shape(norm)[1:])
    whole = isinstance(levels, int) and 1 <= levels <= MOST_LEVELS
    _require(norm, whole, f"has {levels!r} levels where a whole number from 1 up is needed")
    for name, size in (
        ("widest_levels", norm.widest_levels),
        (f"reach({pixels})", norm.reach(pixels)),
        (f"start_radius({pixels})", norm.start_radius(pixels)),
    ):
        real = isinstance(size, (int, float)) and math.isfinite(size) and size > 0
        _require(norm, real, f"says that {name} is {size!r} where a number above 0 is needed")


def _try_shape(norm: Norm, x: Tensor) -> None:
    """One with weights for images of one size is none for any."""
    try:
        norm.length(x)
    except RuntimeError as problem:
        if norm.shape is not None:
            raise
        raise GenrobustError(
            f"the norm '{norm.name}' takes no images of shape {ANY_SHAPE}, on which norms are "
            f"tried ({explain(problem)}); give its class shape = (C, H, W) if it is for images of "
            "one shape, else repair or uninstall what registers it"
        ) from problem


def _try_length(norm: Norm, change: Tensor) -> None:
    length = _numbers(norm, "length", norm.length, change)
    half = _numbers(norm, "length", norm.length, change / 2)
    _require(norm, _near(2 * half, length), "gives half a change another length than half of it")
    ones = _numbers(norm, "length", norm.length, torch.ones(change.shape))
    reach = torch.full_like(ones, norm.reach(change[0].numel()))
    _require(norm, _near(ones, reach), "says by reach() another length of ones than by length()")
    _numbers(norm, "dual", norm.dual, change)


def _try_steepest(norm: Norm, gradient: Tensor, x: Tensor) -> None:
    for scale in SCALES:
        signed = scale * gradient
        change = _images(norm, "steepest", norm.steepest, signed, x)
        length = norm.length(change)
        one = _near(length, torch.ones_like(length))
        found = f"has a steepest() of norm {_span(length)} where 1 is needed"
        of = f", of a gradient of about {abs(scale):g}" if abs(scale) != 1 else ""
        _require(norm, one, found + of)
        rises = (change * signed).flatten(1).sum(1) > 0
        _require(norm, bool(rises.all()), "has a steepest() along which the loss does not rise")


def _try_project(norm: Norm, x: Tensor, noise: Tensor) -> None:
    inside = (x + 0.01 * noise).clamp(0, 1)
    wide = (2 * norm.length(inside - x)).view(-1, 1, 1, 1).to(x)
    kept = _images(norm, "project", norm.project, inside, x, wide)
    stays = torch.allclose(kept, inside, rtol=0, atol=1e-4)
    _require(norm, stays, "has a project() that moves images that are inside the ball")
    radius = PART * norm.reach(x[0].numel())
    moved = _images(norm, "project", norm.project, x + 4 * noise, x, radius)
    boxed = bool(((moved > -TOLERANCE) & (moved < 1 + TOLERANCE)).all())
    _require(norm, boxed, "has a project() that leaves pixels outside [0, 1]")
    length = norm.length(moved - x)
    within = bool((length <= allowed(radius)).all())
    _require(
        norm,
        within,
        f"has a project() to {_span(length)} from the source in a ball of {radius:.4g}",
    )
    _require(norm, bool((length > 0).all()), "has a project() that forgets what it projects")
    if norm.is_box:
        low, high = (
            norm.project(fill(x), x, radius) for fill in (torch.zeros_like, torch.ones_like)
        )
        same = torch.allclose(moved, (x + 4 * noise).clamp(low, high), rtol=0, atol=1e-4)
        _require(norm, same, "says is_box, and its ball is no interval for each pixel by itself")


def _try_draw(norm: Norm) -> None:
    shape = _shape(norm)[1:]
    change = norm.draw(shape, generator("norm", "draw"))
    _require_shape(norm, "draw", change, shape)
    length = norm.length(change[None])
    inside = bool((length <= 1 + OFF).all())
    _require(norm, inside, f"has a draw() of norm {_span(length)} where 1 is the most")


def _numbers(norm: Norm, name: str, call: Callable[..., Tensor], change: Tensor) -> Tensor:
    """What it says of changes that are not 0: a positive number for each."""
    found = _left_alone(norm, name, call, change)
    _require_shape(norm, name, found, (IMAGES,))
    _require_one_by_one(norm, name, call, found, change)
    _require(norm, bool((found > 0).all()), f"has a {name}() of {_span(found)} of a change")
    return found


def _images(norm: Norm, name: str, call: Callable[..., Tensor], *given: Tensor | float) -> Tensor:
    found = _left_alone(norm, name, call, *given)
    _require_shape(norm, name, found, _shape(norm))
    _require(norm, found.dtype == torch.float32, f"turns float32 into {found.dtype} by {name}()")
    _require_one_by_one(norm, name, call, found, *given)
    return found


def _require_one_by_one(
    norm: Norm, name: str, call: Callable[..., Tensor], found: Tensor, *given: Tensor | float
) -> None:
    """An image is treated by itself, whatever is beside it."""
    parts = (v.split(1) if isinstance(v, Tensor) else [v] * len(found) for v in given)
    alone = torch.cat([call(*one) for one in zip(*parts, strict=True)])
    same = torch.allclose(alone, found, rtol=OFF, atol=1e-4 * float(found.abs().max()))
    _require(norm, same, f"gives an image something else by {name}() beside others than alone")


def _left_alone(
    norm: Norm, name: str, call: Callable[..., Tensor], *given: Tensor | float
) -> Tensor:
    """What a method gives, if it does not write to what it is given."""
    own = [value.clone() if isinstance(value, Tensor) else value for value in given]
    found = call(*own)
    pairs = zip(map(torch.as_tensor, own), map(torch.as_tensor, given), strict=True)
    kept = all(torch.equal(now, was) for now, was in pairs)
    _require(norm, kept, f"writes by {name}() to the tensors that it is given")
    return found


def _require_shape(norm: Norm, name: str, found: object, shape: tuple[int, ...]) -> None:
    right = isinstance(found, Tensor) and found.shape == shape
    what = (
        f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
    )
    _require(norm, right, f"gives {what} by {name}() where a tensor of shape {shape} is needed")
    assert isinstance(found, Tensor)
    finite = bool(found.isfinite().all())
    _require(norm, finite, f"gives NaN or infinity by {name}()")


def _is_shape(shape: object) -> bool:
    sides = shape if isinstance(shape, tuple) else ()
    return len(sides) == 3 and all(type(side) is int and side > 0 for side in sides)


def _require(norm: Norm, right: bool, wrong: str) -> None:
    if not right:
        raise GenrobustError(
            f"the norm '{norm.name}' {wrong}; repair or uninstall what registers it"
        )


def _near(found: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(found.double(), wanted.double(), rtol=OFF, atol=0)


def _span(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
