"""What an entry of the leaderboard says, beside the record of its run. Its fields are its docs."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime, timedelta, timezone
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from genrobust.records.outcomes import Outcomes as Outcomes  # which lies beside an entry
from genrobust.suites.suite import Frozen

ENTRY_SCHEMA_VERSION = 1

#: How deep a verification went; each depth includes those before it.
Depth = Literal["schema", "replay", "re-attack"]

#: What Unicode calls a letter, a mark or a symbol, and no font draws.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
#: As many marks as a language puts on one letter.
MARKS = 4

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _has_been(said: str) -> str:
    now = datetime.now(timezone.utc)
    if date.fromisoformat(said) > (now + timedelta(days=1)).date():
        raise ValueError(f"{said} is a day to come, which cannot be: here it is {now.date()}")
    return said


def _is_seen(said: str) -> str:
    """What a page shows is what a file's reader sees: nothing turns it round or hides in it."""
    if not "".join(said.split("\n")).isprintable() or _BLANK.search(said):
        raise ValueError("it has characters that are not seen, such as controls")
    marks = "".join("m" if unicodedata.category(c)[0] == "M" else " " for c in said)
    if "m" * (MARKS + 1) in marks:
        raise ValueError(f"it has more than {MARKS} marks on one letter, which hide what is beside")
    return said


def _is_a_line(said: str) -> str:
    if "\n" in said or not said.strip():
        raise ValueError("it is one line, and not empty")
    return said


Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_has_been)]
Seen = Annotated[str, AfterValidator(_is_seen)]
OneLine = Annotated[Seen, AfterValidator(_is_a_line)]
#: An address that goes where it seems to: nothing before the host that looks like one.
Address = Annotated[
    OneLine,
    Field(pattern=r"^https://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?([/?#].*)?$", max_length=500),
]


class Author(Frozen):
    name: Annotated[OneLine, Field(min_length=1, max_length=120)]
    affiliation: Annotated[OneLine | None, Field(max_length=200)] = None


class Link(Frozen):
    label: Annotated[OneLine, Field(min_length=1, max_length=60)]
    url: Address


class ZooModel(Frozen):
    """A model whose weights ship with genrobust."""

    kind: Literal["zoo"] = "zoo"
    name: OneLine
    dataset: OneLine


class BundledModel(Frozen):
    """A model inside the evidence: data only, so that it can be run without trust."""

    kind: Literal["bundle"] = "bundle"
    format: Annotated[
        Literal["safetensors", "exported"],
        Field(description="weights of a registered architecture, or a torch.export graph"),
    ]
    architecture: Annotated[
        OneLine | None, Field(description="the registered architecture of the weights")
    ] = None


class ExternalModel(Frozen):
    """A model that others published: where it is, and the hash of what was scored."""

    kind: Literal["external"] = "external"
    source: Address
    weights_sha256: Annotated[Sha256, Field(description="of the published file")]
    reference: Annotated[
        OneLine, Field(description="FILE.py:FUNCTION that builds it; run only with --trust-code")
    ]


class Submission(Frozen):
    """What its submitter says of it."""

    name: Annotated[OneLine, Field(min_length=1, max_length=80)]
    authors: Annotated[tuple[Author, ...], Field(min_length=1, max_length=40)]
    links: Annotated[tuple[Link, ...], Field(max_length=10)] = ()
    family: Annotated[
        OneLine | None,
        Field(min_length=1, max_length=40, description="kind of model; boards can be filtered"),
    ] = None
    licence: Annotated[OneLine, Field(min_length=1, max_length=80)]
    training_data: Annotated[OneLine, Field(min_length=1, max_length=300)]
    note: Annotated[Seen, Field(max_length=2000)] = ""
    recipe: Annotated[
        OneLine | None,
        Field(
            min_length=1,
            max_length=80,
            exclude_if=lambda value: value is None,
            description="how it was trained, by name: entries of the same authors, recipe and size "
            "are its seeds, and boards show them together",
        ),
    ] = None
    training_seed: Annotated[
        int | None,
        Field(
            ge=0,
            lt=2**63,
            exclude_if=lambda value: value is None,
            description="of the recipe: each of its entries has another one",
        ),
    ] = None

    @model_validator(mode="after")
    def _is_whole(self) -> Submission:
        if (self.recipe is None) != (self.training_seed is None):
            raise ValueError("a recipe goes with the seed of its training (--training-seed)")
        return self


class Entry(Frozen):
    """``entry.json``: a model on a suite's board, or an attack on a model that is there.

    An attack's folder is ``attacks/SLUG`` inside that of the model it was run on.
    """

    schema_version: Annotated[int, Field(ge=1, le=ENTRY_SCHEMA_VERSION)] = ENTRY_SCHEMA_VERSION
    kind: Literal["model", "attack"]
    slug: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
    suite: Annotated[str, Field(description="NAME-vVERSION")]
    submission: Submission
    submitted: Day
    model: Annotated[ZooModel | BundledModel | ExternalModel, Field(discriminator="kind")]
    fingerprint: Annotated[Sha256, Field(description="of the model that was scored")]
    files: Annotated[
        dict[str, Sha256],
        Field(description="record.json, outcomes.json, evidence.zip, thumbnails.png: their hashes"),
    ]


class Check(Frozen):
    """One thing that was verified, and what it showed."""

    name: str
    passed: bool
    detail: Annotated[str, Field(description="what was compared, and the reason if it failed")]


class Verification(Frozen):
    """``verification.json``: how deep an entry was verified, with what, and the outcome."""

    schema_version: Annotated[int, Field(ge=1, le=ENTRY_SCHEMA_VERSION)] = ENTRY_SCHEMA_VERSION
    depth: Depth
    passed: bool
    checks: tuple[Check, ...]
    entry_sha256: Annotated[
        Sha256, Field(description="of the entry.json, or of the evidence, that was verified")
    ]
    genrobust: str
    platform: str
    date: Day
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    rate: Annotated[
        float | None,
        Field(
            ge=0,
            allow_inf_nan=False,
            exclude_if=lambda value: value is None,
            description="what the model's code was measured to carry, in nats an image, by a "
            "replay; None before that was measured",
        ),
    ] = None
