"""Dataclasses of tensors whose annotations are the table of what is stored.

How results are written and read, joined over shards, kept as evidence, and checked by a replay
follows from what the annotations say of each tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache, partial
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import torch
from torch import Tensor

#: What a tensor has an entry for, along its first dimensions.
Per = Literal["source", "radius and source", "attack and radius"]

#: What shows that an entry is right: nothing but itself (what was found: all else rests on it);
#: model and data, without an attack; a replay of what was found; the attacks, run again.
Proof = Literal["found", "still", "replay", "rerun"]

Self = TypeVar("Self", bound="Stored")

#: The annotations of a class: they are text, which is compiled at every look.
_hints: Callable[..., dict[str, Any]] = cache(partial(get_type_hints, include_extras=True))


@dataclass(frozen=True)
class Column:
    """How a tensor is stored.

    Args:
        dtype: None for images and numbers in the model's own, and for stored steps.
        per: its first dimensions; "attack" counts two more rows, for the flags.
        proof: what shows that it is right.
        kept: whether evidence keeps it; what follows from the rest is not kept.
        pixels: whether an entry is an image, or as large.
    """

    dtype: torch.dtype | None
    per: Per
    proof: Proof
    kept: bool = True
    pixels: bool = False


@dataclass(frozen=True)
class Group:
    """Tensors in a dataclass of their own, whose names have a prefix."""

    prefix: str = ""


@dataclass(frozen=True, eq=False)
class Stored:
    """A dataclass of tensors, each annotated with its :class:`Column`, and of groups of them.

    What is None is not stored, and what is not stored is None if that is its default.

    Example:
        >>> from genrobust.outcomes.outcome import Counts  # of attacks and radii: they add up
        >>> shard = {name: torch.ones(3, 1) for name in Counts.table()}
        >>> Counts.joined([shard, shard]).tensors()["tried"].tolist()
        [[2.0], [2.0], [2.0]]
    """

    @classmethod
    def table(cls) -> dict[str, Column]:
        """The columns by name, with those of the groups."""
        found: dict[str, Column] = {}
        for attribute, mark, kind in _members(cls):
            own = {attribute: mark} if isinstance(mark, Column) else kind.table()
            found |= {_name(mark, name): column for name, column in own.items()}
        return found

    def tensors(self) -> dict[str, Tensor]:
        """By name on the CPU, as they are stored."""
        found: dict[str, Tensor] = {}
        for attribute, mark, _ in _members(type(self)):
            value = getattr(self, attribute)
            if value is not None:
                own = {attribute: value.cpu()} if isinstance(mark, Column) else value.tensors()
                found |= {_name(mark, name): tensor for name, tensor in own.items()}
        return found

    @classmethod
    def of(cls: type[Self], tensors: Mapping[str, Tensor]) -> Self:
        """From tensors by name.

        Raises:
            KeyError: one is missing that has no default.
        """
        given: dict[str, Any] = {}
        optional = {field.name for field in fields(cls) if field.default is not MISSING}
        for attribute, mark, kind in _members(cls):
            names = (attribute,) if isinstance(mark, Column) else kind.table()
            own = {name: tensors[n] for name in names if (n := _name(mark, name)) in tensors}
            if own or attribute not in optional:
                given[attribute] = own[attribute] if isinstance(mark, Column) else kind.of(own)
        return cls(**given)

    @classmethod
    def joined(cls: type[Self], parts: Sequence[Mapping[str, Tensor]]) -> Self:
        """Over all sources, in the order of the parts; counts are summed."""
        found: dict[str, Tensor] = {}
        for name, column in cls.table().items():
            if name not in parts[0]:
                continue
            tensors = [part[name] for part in parts]
            if column.per == "attack and radius":
                found[name] = torch.stack(tensors).sum(0)
            else:
                found[name] = torch.cat(tensors, _axis(column))
        return cls.of(found)

    @classmethod
    def without_pixels(cls, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of tensors by name, those of images left empty: (B, 0).

        A copy does not hold the file that the others were read from.
        """
        table = cls.table()
        return {
            n: t.new_empty(len(t), 0) if table[n].pixels else t.clone() for n, t in tensors.items()
        }

    def part(self: Self, sources: slice) -> Self:
        """What is said of some sources; counts are still those of all."""
        table, tensors = self.table(), self.tensors()
        for name, tensor in tensors.items():
            if table[name].per != "attack and radius":
                tensors[name] = tensor[:, sources] if _axis(table[name]) else tensor[sources]
        return self.of(tensors)


def _axis(column: Column) -> int:
    """The dimension of the sources."""
    return 1 if column.per == "radius and source" else 0


def _name(mark: Column | Group, name: str) -> str:
    return name if isinstance(mark, Column) else mark.prefix + name


def _members(cls: type[Stored]) -> tuple[tuple[str, Column | Group, type[Stored]], ...]:
    """Attributes, what their annotations say, and their types."""
    found = []
    for attribute, hint in _hints(cls).items():
        kind, mark = get_args(hint)
        found.append((attribute, mark, (get_args(kind) or (kind,))[0]))
    return tuple(found)
