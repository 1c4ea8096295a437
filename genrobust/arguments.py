"""What people pass to the Python API, read at its border: one sentence where it is no good."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.names import unkept

T = TypeVar("T")

#: Pixels that leave [0, 1] by less than this were in it before they were resized or rounded.
SLIP = 0.1


def whole(name: str, value: Any, example: int = 1) -> int:
    """A whole number.

    Raises:
        GenrobustError: it is something else, such as a string or a bool.

    Example:
        >>> whole("limit", "5")
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: limit is '5'; give a whole number, such as limit=1
    """
    value = bare(value)
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise GenrobustError(
            f"{name} is {_shown(value)}; give a whole number, such as {name}={example}"
        )
    return int(value)


def within(name: str, value: int, least: int, most: int, example: int) -> int:
    """A whole number, if it is in a range.

    Raises:
        GenrobustError: it is outside.
    """
    if not least <= value <= most:
        raise GenrobustError(
            f"{name} is {value}; give a whole number from {least} to {most}, such as "
            f"{name}={example}"
        )
    return value


def whole_seed(seed: Any) -> int:
    """A seed, of the range that the commands take; a plain int, as keys are made of its digits.

    Raises:
        GenrobustError: it is something else.

    Example:
        >>> whole_seed(-1)
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: seed is -1; give a whole number from 0 to ...
    """
    return within("seed", whole("seed", seed, 0), 0, 2**63 - 1, 0)


def truth(name: str, value: Any) -> bool:
    """True or False.

    Raises:
        GenrobustError: it is something else, which Python takes for one of them.

    Example:
        >>> truth("clamp", "no")
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: clamp is 'no'; give True or False
    """
    value = bare(value)
    if not isinstance(value, (bool, np.bool_)):
        raise GenrobustError(f"{name} is {_shown(value)}; give True or False")
    return bool(value)


def real(name: str, value: Any, example: float = 0.1) -> float:
    """A number; NaN and infinity are for the caller to judge.

    Raises:
        GenrobustError: it is something else, such as a string, a bool or a list.
    """
    value = bare(value)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise GenrobustError(f"{name} is {_shown(value)}; give a number, such as {name}={example}")
    return float(value)


def text(name: str, value: Any, example: str) -> str:
    """A string.

    Raises:
        GenrobustError: it is something else, or no result can hold it.
    """
    if not isinstance(value, str):
        raise GenrobustError(
            f"{name} is {_shown(value)}; give a string, such as {name}={example!r}"
        )
    return _kept(name, value)


def path(name: str, value: Any, example: str) -> str | Path:
    """A path, as a string or a Path.

    Raises:
        GenrobustError: it is something else, or lies where libraries cannot be told.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise GenrobustError(f"{name} is {_shown(value)}; give a path, such as {name}={example!r}")
    _kept(name, Path(value))
    return value if isinstance(value, str) else Path(value)


def several(
    name: str, values: Any, kind: Callable[[str, Any, Any], T], example: Any
) -> tuple[T, ...]:
    """A sequence, each entry of which is read by ``kind``.

    A string is no sequence here, although Python takes it for one of its letters.

    Raises:
        GenrobustError: it is one bare value, or an entry is of another kind.

    Example:
        >>> several("attacks", "fgsm", text, "fgsm")
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: attacks is 'fgsm'; give a list, such as attacks=['fgsm']
    """
    listed = isinstance(values, (Sequence, np.ndarray, Tensor)) and not isinstance(
        values, (str, bytes)
    )
    if not listed or getattr(values, "ndim", 1) != 1:
        raise GenrobustError(
            f"{name} is {_shown(values)}; give a list, such as {name}=[{example!r}]"
        )
    return tuple(kind(f"{name}[{i}]", value, example) for i, value in enumerate(values))


def tensor(name: str, value: Any) -> Tensor:
    """Real numbers as a tensor: a tensor as it is, an array or nested lists copied.

    An array may have another byte order than this machine, as files of numpy's may.

    Raises:
        GenrobustError: it is none of these, holds complex numbers, has no data, or lacks some.

    Example:
        >>> tensor("x", np.zeros((2, 3))).shape
        torch.Size([2, 3])
        >>> tensor("x", "a picture")
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: x is 'a picture'; give a tensor or an array of numbers
    """
    found = value
    if not isinstance(value, Tensor):
        if np.ma.is_masked(value):
            raise GenrobustError(
                f"{name} is an array of which {np.ma.count_masked(value)} numbers are masked; "
                "give numbers for these, such as by .filled(0)"
            )
        try:
            array = np.array(value)
            found = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        except (TypeError, ValueError, RuntimeError) as problem:
            raise GenrobustError(
                f"{name} is {_shown(value)}; give a tensor or an array of numbers"
            ) from problem
    plain = not (found.is_meta or found.is_complex() or found.is_quantized or found.is_nested)
    if not plain or found.layout != torch.strided:
        raise GenrobustError(
            f"{name} is {_shown(found)}; give a plain tensor of real numbers, with its data"
        )
    assert isinstance(found, Tensor)
    return found


def floats(name: str, value: Any) -> Tensor:
    """Numbers to compute with: floats in float32 at least, whole numbers and bools in float64.

    Example:
        >>> floats("x", torch.tensor([12], dtype=torch.uint8))
        tensor([12.], dtype=torch.float64)
    """
    found = tensor(name, value)
    if not found.is_floating_point():
        return found.double()
    return found.to(torch.promote_types(found.dtype, torch.float32))


def classes(name: str, value: Any) -> Tensor:
    """Classes as int64, from whole numbers of any size or bools.

    Raises:
        GenrobustError: they are not whole numbers.

    Example:
        >>> classes("labels", torch.tensor([0.5]))
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: labels are torch.float32; give classes as whole numbers (int64)
    """  # noqa: E501
    found = tensor(name, value)
    if found.is_floating_point() and found.numel():
        raise GenrobustError(f"{name} are {found.dtype}; give classes as whole numbers (int64)")
    return found.long()


def flags(name: str, value: Any) -> Tensor:
    """True or false, as bool, from bools or numbers that are 0 and 1.

    Raises:
        GenrobustError: there are other numbers.
    """
    found = tensor(name, value)
    if not bool(((found == 0) | (found == 1)).all()):
        raise GenrobustError(f"{name} must be True and False, or 0 and 1")
    return found.bool()


def images(name: str, value: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    """Images in float32 at least, (B, C, H, W) and one or more; of any range.

    Args:
        name: of the argument.
        value: a tensor or an array.
        shape: (C, H, W), if it is known.

    Raises:
        GenrobustError: another shape, bytes or other whole numbers, NaN or infinite pixels.
    """
    found = tensor(name, value)
    if found.ndim != 4 or (shape is not None and tuple(found.shape[1:]) != tuple(shape)):
        wanted = "C, H, W" if shape is None else ", ".join(map(str, shape))
        who = "give" if shape is None else "the model takes"
        raise GenrobustError(f"{name} has shape {tuple(found.shape)}; {who} (B, {wanted})")
    if not found.numel():
        raise GenrobustError(f"{name} holds no images; pass at least one")
    if not found.is_floating_point():
        such = f"{name} / 255 for bytes"
        if found.dtype == torch.bool:
            such = f"{name}.float(), or {name}.astype('float32') of an array"
        raise GenrobustError(f"{name} is {found.dtype}; pass floats in [0, 1], such as {such}")
    found = floats(name, found)
    if not bool(found.isfinite().all()):
        raise GenrobustError(f"{name} has NaN or infinite pixels; pass floats in [0, 1]")
    return found


def require_pixels(name: str, images: Tensor) -> None:
    """Assert that all pixels are in [0, 1].

    Raises:
        GenrobustError: one is not.
    """
    if not images.numel():
        raise GenrobustError(f"{name} holds no images; give at least one")
    if not bool(images.isfinite().all()):
        raise GenrobustError(f"{name} has NaN or infinite pixels; give floats in [0, 1]")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        hidden = float(f"{low:.4g}") >= 0 and float(f"{high:.4g}") <= 1
        places = ".9g" if hidden else ".4g"
        # Whatever made them negative, these alone lead back to [0, 1].
        centred, normalised = f"({name} + 1) / 2", f"{name} * std + mean"
        undo = f"leave out what normalised them by a mean and a std, or undo it by {normalised}"
        if low > -SLIP and high < 1 + SLIP:
            advice = f"clip what resizing or rounding left outside, such as by {name}.clip(0, 1)"
        elif low < -1 - SLIP or (low < 0 and high > 1 + SLIP):
            advice = undo
        elif low < 0:
            advice = f"give {centred} of pixels from -1 to 1; else {undo}"
        else:
            advice = "divide them by what white is in them, which is 255 in bytes"
        raise GenrobustError(
            f"{name} has pixels from {low:{places}} to {high:{places}}; [0, 1] is allowed: "
            f"{advice}; the range that a model works with is given to wrap() as value_range, and "
            "images stay in [0, 1]"
        )


def _kept(name: str, value: T) -> T:
    """The value, if results can hold it."""
    if reason := unkept(value):
        raise GenrobustError(f"{name} {reason}")
    return value


def bare(value: Any) -> Any:
    """The number in a scalar, a tensor or an array without dimensions, or the value itself.

    A number of single or half precision is the one that was typed for it, 0.1 and not
    0.10000000149: it is another radius otherwise, and another suite.

    Example:
        >>> bare(np.int64(3)), bare(torch.tensor(0.1)), bare([3])
        (3, 0.1, [3])
    """
    if not isinstance(value, (Tensor, np.ndarray, np.generic)) or value.ndim != 0:
        return value
    if isinstance(value, Tensor):
        if value.is_meta:
            return None
        if value.dtype not in (torch.float32, torch.float16):
            return value.item()
        value = value.detach().cpu().numpy()
    if value.dtype in (np.float32, np.float16):
        return float(str(value[()]))  # the shortest number that is rounded to it
    return value.item()


def _shown(value: Any) -> str:
    """A value as a sentence can hold it."""
    if isinstance(value, Tensor) and value.is_nested:
        return "a nested tensor"
    if isinstance(value, (Tensor, np.ndarray)):
        return f"a {type(value).__name__} of {value.dtype} and shape {tuple(value.shape)}"
    short = isinstance(value, (str, bytes, int, float, list, tuple, type(None)))
    return repr(value) if short and len(repr(value)) <= 60 else f"a {type(value).__name__}"


def usable_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        GenrobustError: torch does not have it.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # meta has tensors, and nothing in them
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as problem:
        reason = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise GenrobustError(
            f"the device '{name}' cannot be used ({reason}); choose cpu, or one that torch sees"
        ) from problem
    return device
