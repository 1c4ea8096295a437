"""The pictures of a report: a few sources and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from genrobust import files
from genrobust.errors import GenrobustError
from genrobust.models.tensors import TensorLimits, read_safetensors

#: The file beside record.json.
EXAMPLES = "examples.safetensors"

#: What in its metadata says of which run the pictures are.
_RUN = "run"

_NAMES = ("sample_id", "label", "source", "reconstruction")
_ATTACKED = ("eps", "x_adv", "attacked", "shows")


@dataclass(frozen=True, eq=False)
class Attacked:
    """A source's attacked image at the smallest radius at which it fell, (C, H, W) in [0, 1]."""

    eps: float
    x_adv: Tensor
    reconstruction: Tensor
    shows: int  # the class the judges agree on


@dataclass(frozen=True, eq=False)
class Example:
    """A source with its clean reconstruction; ``attacked`` is empty if it stood at every radius."""

    sample_id: int
    label: int
    source: Tensor
    reconstruction: Tensor
    attacked: tuple[Attacked, ...]


def written_examples(examples: Sequence[Example], run: str) -> bytes:
    """One or more, each with the first image that broke it, as a file holds them.

    ``run`` tells of which they are.
    """
    fallen = [one.attacked[0] if one.attacked else None for one in examples]
    columns = {
        "sample_id": torch.tensor([one.sample_id for one in examples]),
        "label": torch.tensor([one.label for one in examples]),
        "source": torch.stack([one.source for one in examples]),
        "reconstruction": torch.stack([one.reconstruction for one in examples]),
        "eps": torch.tensor([a.eps if a else torch.nan for a in fallen], dtype=torch.float64),
        "x_adv": _stacked([a.x_adv if a else None for a in fallen], examples),
        "attacked": _stacked([a.reconstruction if a else None for a in fallen], examples),
        "shows": torch.tensor([a.shows if a else -1 for a in fallen]),
    }
    return save({name: column.cpu().contiguous() for name, column in columns.items()}, {_RUN: run})


def read_examples(content: bytes, path: Path) -> tuple[list[Example], str | None]:
    """What :func:`written_examples` was given; files of before do not say of which run they are.

    Raises:
        GenrobustError: the content is something else.
    """
    found = read_safetensors(content, TensorLimits(bytes=64 << 20, tensors=16), f"'{path}'")
    columns = [found[name] for name in (*_NAMES, *_ATTACKED) if name in found]
    if len(columns) < len(_NAMES + _ATTACKED) or len({len(column) for column in columns}) > 1:
        raise GenrobustError(f"'{path}' does not hold a run's pictures; write them again")
    return [_read(*row) for row in zip(*columns, strict=True)], files.metadata_in(content).get(_RUN)


def _read(
    sample_id: Tensor, label: Tensor, source: Tensor, reconstruction: Tensor, *attacked: Tensor
) -> Example:
    eps, x_adv, moved, shows = attacked
    fallen = () if eps.isnan() else (Attacked(float(eps), x_adv, moved, int(shows)),)
    return Example(int(sample_id), int(label), source, reconstruction, fallen)


def _stacked(images: Sequence[Tensor | None], examples: Sequence[Example]) -> Tensor:
    """One an example; blank where it stood."""
    pairs = zip(images, examples, strict=True)
    return torch.stack([torch.zeros_like(e.source) if i is None else i for i, e in pairs])
