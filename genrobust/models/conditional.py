"""Conditional models: what they are told of an image beside it is a part of its code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.models.adapters import posterior_of, require_probabilities
from genrobust.posterior import Point, Posterior


class Conditional:
    """``encode`` and ``decode`` that take labels, as ones that take images and codes alone.

    Args:
        encode: images and labels to a posterior, in any form that says itself what it holds.
        decode: codes and labels to images.
        labels: images to labels: whole numbers (B,), or numbers (B, ...) such as one-hot rows.
    """

    def __init__(
        self,
        encode: Callable[..., Any],
        decode: Callable[..., Any],
        labels: Callable[[Tensor], Tensor],
    ) -> None:
        self._encode, self._decode, self._labels = encode, decode, labels
        self._code: torch.Size | None = None

    def encode(self, x: Tensor) -> Posterior:
        """The posterior, and the label as a point beside it.

        Raises:
            GenrobustError: there is no label an image.
        """
        given = self._labels(x)
        if not isinstance(given, Tensor) or given.shape[:1] != x.shape[:1]:
            raise GenrobustError(
                "labels= gave no label an image; let it return a tensor of whole numbers (B,), or "
                "of one-hot rows (B, classes), such as lambda x: classifier(x).argmax(1)"
            )
        output = self._encode(x, given)
        if self._code is None:
            require_probabilities(output)
        posterior = posterior_of(output)
        self._code, self._label = posterior.mode().shape[1:], given.shape[1:]
        self._kind = given.dtype
        return Posterior((*posterior.parts, Point(given.to(x.dtype).reshape(len(x), -1))))

    def decode(self, code: Tensor) -> Any:
        """What the decoder makes of the code with its label."""
        if self._code is None:
            raise GenrobustError("a conditional model decodes what it has encoded; encode first")
        z, label = code.split([self._code.numel(), code.shape[1] - self._code.numel()], 1)
        if not self._kind.is_floating_point:
            label = label.round()
        given = label.reshape(len(code), *self._label).to(self._kind)
        return self._decode(z.reshape(len(code), *self._code), given)
