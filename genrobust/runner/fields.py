"""What the result of attacking a shard consists of: one table, from which all else follows.

How shards are joined, what evidence keeps and in which form, and what a replay or a rerun compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genrobust.suites.suite import Suite

#: The two aims that are kept apart: any class but the source's, and the target's.
GOALS = ("ignore", "target")

#: What a tensor has an entry for, along its first dimensions.
Per = Literal["source", "radius and source", "attack and radius"]

#: What shows that an entry is right: nothing but itself (what was found: all else rests on it);
#: model and data, without an attack; a replay of what was found; the attacks, run again.
Proof = Literal["found", "still", "replay", "rerun"]


@dataclass(frozen=True)
class Field:
    """A tensor of a shard's result.

    Args:
        name: in shards and evidence.
        dtype: None for images and numbers in the model's own, and for stored steps.
        per: its first dimensions; "attack" counts two more rows, for the flags.
        proof: what shows that it is right.
        kept: whether evidence keeps it; what follows from the rest is not kept.
        sign: whether flags rest on it, so that it is there only with an attacker's judge.
        later: whether the first runs were made without it.
    """

    name: str
    dtype: torch.dtype | None
    per: Per
    proof: Proof
    kept: bool = True
    sign: bool = False
    later: bool = False


def _of_goal(goal: str) -> tuple[Field, ...]:
    derived = ("x_adv", "reconstruction", "source_similarity", "reconstruction_similarity")
    return (
        Field(f"{goal}.radius", torch.int64, "source", "found"),
        Field(f"{goal}.perturbation", None, "source", "found"),
        Field(f"{goal}.verdict", torch.int64, "source", "replay", kept=False),
        *(
            Field(f"{goal}.{name}", None, "source", "replay", kept=False)
            for name in (*derived, "displacement", "symmetric_kl")
        ),
    )


def _sign(name: str, dtype: torch.dtype, proof: Proof, later: bool = False) -> Field:
    per: Per = "radius and source" if name.startswith("probe.") else "source"
    return Field(name, dtype, per, proof, sign=True, later=later)


_OF_DAMAGE: tuple[tuple[tuple[str, ...], Proof, bool], ...] = (
    (("noise", "noise_shift", "noise_similarity"), "still", True),
    (("attacked", "attacked_shift", "attacked_similarity", "to_target"), "rerun", False),
)

FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        Field("label", torch.int64, "source", "still"),
        Field("target_label", torch.int64, "source", "still"),
        Field("input_verdict", torch.int64, "source", "still"),
        Field("clean_verdict", torch.int64, "source", "still"),
        Field("eligible", torch.bool, "source", "still"),
        *(
            Field(name, None, "source", "still", kept=False)
            for name in ("source", "reconstruction", "kl", "mean")
        ),
        *_of_goal("ignore"),
        *_of_goal("target"),
        _sign("gradient_norm", torch.float32, "still"),
        _sign("gradient_cosine", torch.float32, "still"),
        _sign("descent", torch.float32, "still", later=True),
        _sign("descent_promised", torch.float32, "still", later=True),
        _sign("surrogate_label", torch.int64, "still"),
        _sign("deployed_label", torch.int64, "still"),
        _sign("longer.tried", torch.bool, "rerun"),
        _sign("longer.success", torch.bool, "rerun"),
        _sign("probe.success", torch.bool, "rerun"),
        _sign("probe.again", torch.bool, "rerun"),
        _sign("probe.stopped", torch.bool, "rerun", later=True),
        *(
            Field(f"damage.{name}", torch.float32, "source", "still", sign=True, later=True)
            for name in ("clean", "clean_similarity", "constant")
        ),
        *(
            Field(
                f"damage.{name}", torch.float32, "radius and source", proof, sign=sign, later=True
            )
            for names, proof, sign in _OF_DAMAGE
            for name in names
        ),
        *(
            Field(name, torch.int64, "attack and radius", "rerun")
            for name in ("tried", "succeeded", "forwards", "backwards")
        ),
    )
}

#: What is counted by attack and radius; over shards it is summed.
COUNTS = tuple(name for name, field in FIELDS.items() if field.per == "attack and radius")


def kept_of(suite: Suite) -> tuple[Field, ...]:
    """What evidence of a run on the suite keeps."""

    def applies(field: Field) -> bool:
        if field.name.startswith("longer.") and not suite.ensemble:
            return False
        if field.name.startswith("damage."):
            return field.per == "source" or suite.ensemble
        return not field.sign or suite.attacker_judge is not None

    return tuple(field for field in FIELDS.values() if field.kept and applies(field))


def joined(name: str, parts: list[Tensor]) -> Tensor:
    """The tensors of several shards as one over all sources."""
    per = FIELDS[name].per if name in FIELDS else "source"
    if per == "attack and radius":
        return torch.stack(parts).sum(0)
    return torch.cat(parts, 1 if per == "radius and source" else 0)


def part_of(name: str, tensor: Tensor, sources: slice) -> Tensor:
    """The part of some sources, of a tensor that has an entry for each."""
    return tensor[:, sources] if FIELDS[name].per == "radius and source" else tensor[sources]
