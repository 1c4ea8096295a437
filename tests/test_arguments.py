"""The readers of the Python API's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genrobust import arguments
from genrobust.errors import GenrobustError


def refused(words: str, call: Callable[[], Any]) -> None:
    with pytest.raises(GenrobustError, match=words):
        call()


class Plain:
    """Neither a number nor a sequence."""


@pytest.mark.parametrize("value", [3, np.int8(3), torch.tensor(3), np.array(3)])
def test_whole_numbers_are_read(value: Any) -> None:
    found = arguments.whole("n", value)
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [3.0, "3", True, None, [3], torch.tensor([3]), np.bool_(True)])
def test_nothing_else_is_a_whole_number(value: Any) -> None:
    refused("n is .*; give a whole number, such as n=1", lambda: arguments.whole("n", value))


@pytest.mark.parametrize("value", [0.5, np.float16(0.5), torch.tensor(0.5)])
def test_numbers_are_read(value: Any) -> None:
    found = arguments.real("eps", value)
    assert (found, type(found)) == (0.5, float)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_radius_of_any_precision_is_the_one_that_was_typed(kind: str) -> None:
    eps = [0.02, 0.1, 8 / 255] if kind == "float64" else [0.02, 0.1, 0.0314]
    assert arguments.several("eps", np.array(eps, kind), arguments.real, 0.1) == tuple(eps)
    tensor = torch.tensor(eps, dtype=getattr(torch, kind))
    assert arguments.several("eps", tensor, arguments.real, 0.1) == tuple(eps)


def test_long_values_are_named_by_their_type() -> None:
    refused("n is a str; give", lambda: arguments.whole("n", "9" * 100))
    refused(r"n is a ndarray of float64 and shape \(2,\)", lambda: arguments.whole("n", np.ones(2)))
    refused("n is a Plain; give", lambda: arguments.real("n", Plain()))


def test_a_tensor_is_not_copied_and_an_array_is() -> None:
    tensor: Tensor = torch.zeros(2)
    assert arguments.tensor("x", tensor) is tensor
    array = np.zeros(2)
    arguments.tensor("x", array)[0] = 1
    assert array[0] == 0
