"""Conditional models: what they are told of an image beside it is a part of its code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genrobust.errors import GenrobustError, is_out_of_memory
from genrobust.posterior import Categorical, Point, Posterior

#: What to type of more labels than one.
_SEVERAL = (
    "; of several give one row, such as lambda x: torch.cat([one(x), other(x)], 1), and encode= "
    "and decode= that take it apart, such as encode=lambda x, y: module.encode(x, y[:, :10], "
    "y[:, 10:])"
)


def _itself(code: Tensor) -> Tensor:
    return code


class Conditional:
    """``encode`` and ``decode`` that take labels, as ones that take images and codes alone.

    Args:
        encode: images and labels to a posterior, in any form.
        decode: codes and labels to images.
        labels: images to labels: whole numbers (B,), or numbers (B, ...) such as one-hot rows; or
            to the ``Categorical`` of a classifier's logits (B, classes), which gradients go through
            and attacks switch.
    """

    def __init__(
        self,
        encode: Callable[..., Any],
        decode: Callable[..., Any],
        labels: Callable[[Tensor], Tensor | Categorical],
    ) -> None:
        self._encode, self._decode, self._labels = encode, decode, labels
        self._code: torch.Size | None = None
        #: Of a label that is no category, as it is given.
        self._shape: torch.Size | None = None
        #: Of a category: whether the half takes it as a whole number, and not as a row.
        self._whole: dict[str, bool] = {}

    def encode(self, x: Tensor) -> tuple[Any, Tensor | Categorical]:
        """What the encoder gives, and the label of each image that it was told.

        Raises:
            GenrobustError: there is no label an image.
        """
        label = self._label_of(x)
        return self._encode(x, self._taken(label, x)), label

    def joined(self, posterior: Posterior, label: Tensor | Categorical) -> Posterior:
        """A posterior, and the label beside it: as a point, or as the category that it is."""
        code = posterior.mode()
        self._code = code.shape[1:]
        if isinstance(label, Categorical):
            return Posterior((*posterior.parts, label))
        self._shape, self._kind = label.shape[1:], label.dtype
        return Posterior((*posterior.parts, Point(label.to(code.dtype).reshape(len(code), -1))))

    def decode(self, code: Tensor, given: Callable[[Tensor], Any] = _itself) -> Any:
        """What the decoder makes of the code with its label.

        Args:
            code: of a joined posterior.
            given: its part before the label, to what the decoder takes.
        """
        if self._code is None:
            raise GenrobustError("a conditional model decodes what it has encoded; encode first")
        flat, label = code.split([self._code.numel(), code.shape[1] - self._code.numel()], 1)
        z = given(flat.reshape(len(code), *self._code))
        if self._shape is not None:
            label = label if self._kind.is_floating_point else label.round()
            return self._decode(z, label.reshape(len(code), *self._shape).to(self._kind))
        if not self._takes_whole("decode", lambda: self._decode(z, label)):
            return self._decode(z, label)
        if not label.requires_grad and torch.equal(label, Categorical(label).mode()):
            return self._decode(z, label.argmax(1))
        # A network has no gradient to a whole number; the mean of its pictures has one.
        pictures = [self._picture(z, label, k) for k in range(label.shape[1])]
        shares = label.view(*label.shape, *[1] * (pictures[0].ndim - 1))
        return sum(shares[:, k] * picture for k, picture in enumerate(pictures))

    def told(self, x: Tensor) -> Tensor:
        """The labels of images, as the network takes them: whole where one of its halves does."""
        label = self._label_of(x)
        given = self._taken(label, x)
        either = isinstance(label, Categorical) and any(self._whole.values())
        return given.argmax(1) if either and given.ndim > 1 else given

    def _label_of(self, x: Tensor) -> Tensor | Categorical:
        given: object = self._labels(x)
        if isinstance(given, Tensor) and given.shape[:1] == x.shape[:1]:
            return given
        if isinstance(given, Categorical) and given.logits.shape[:1] == x.shape[:1]:
            return given
        several = isinstance(given, (tuple, list, dict)) and len(given) > 1
        raise GenrobustError(
            "labels= gave no label an image; let it return genrobust.Categorical(logits), such "
            "as lambda x: genrobust.Categorical(classifier(x)), or a tensor of whole numbers "
            "(B,), or of one-hot rows (B, classes)" + (_SEVERAL if several else "")
        )

    def _taken(self, label: Tensor | Categorical, x: Tensor) -> Tensor:
        """The label as the network takes it; a category is tried as a row first."""
        if not isinstance(label, Categorical):
            return label
        rows = label.straight_through()
        whole = self._takes_whole("encode", lambda: self._encode(x, rows))
        return rows.argmax(1) if whole else rows

    def _takes_whole(self, half: str, with_rows: Callable[[], Any]) -> bool:
        """Whether a half fails of a row, as it is tried at first."""
        if half not in self._whole:
            try:
                with_rows()
            except (RuntimeError, TypeError, ValueError, IndexError) as problem:
                if is_out_of_memory(problem):
                    raise  # of which fewer images are tried
                self._whole[half] = True
            else:
                self._whole[half] = False
        return self._whole[half]

    def _picture(self, z: Any, label: Tensor, k: int) -> Tensor:
        shown = self._decode(z, torch.full_like(label[:, 0], k, dtype=torch.int64))
        if not isinstance(shown, Tensor):
            raise GenrobustError(
                f"labels= gives a Categorical, and decode of whole numbers a {type(shown).__name__}"
                "; pass decode= that returns the pictures alone"
            )
        return shown
