"""What an entry of the leaderboard says, beside the record of its run. Its fields are its docs."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from genrobust.records.outcomes import Outcomes as Outcomes  # which lies beside an entry
from genrobust.suites.suite import Frozen

ENTRY_SCHEMA_VERSION = 1

#: How deep a verification went; each depth includes those before it.
Depth = Literal["schema", "replay", "re-attack"]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _is_a_day(said: str) -> str:
    date.fromisoformat(said)
    return said


Day = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_is_a_day)]


class Author(Frozen):
    name: Annotated[str, Field(min_length=1, max_length=120)]
    affiliation: Annotated[str | None, Field(max_length=200)] = None


class Link(Frozen):
    label: Annotated[str, Field(min_length=1, max_length=60)]
    url: Annotated[str, Field(pattern=r"^https://", max_length=500)]


class ZooModel(Frozen):
    """A model whose weights ship with genrobust."""

    kind: Literal["zoo"] = "zoo"
    name: str
    dataset: str


class BundledModel(Frozen):
    """A model inside the evidence: data only, so that it can be run without trust."""

    kind: Literal["bundle"] = "bundle"
    format: Annotated[
        Literal["safetensors", "exported"],
        Field(description="weights of a registered architecture, or a torch.export graph"),
    ]
    architecture: Annotated[
        str | None, Field(description="the registered architecture of the weights")
    ] = None


class ExternalModel(Frozen):
    """A model that others published: where it is, and the hash of what was scored."""

    kind: Literal["external"] = "external"
    source: Annotated[str, Field(pattern=r"^https://", max_length=500)]
    weights_sha256: Annotated[Sha256, Field(description="of the published file")]
    reference: Annotated[
        str, Field(description="FILE.py:FUNCTION that builds it; run only with --trust-code")
    ]


class Submission(Frozen):
    """What its submitter says of it."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    authors: Annotated[tuple[Author, ...], Field(min_length=1, max_length=40)]
    links: Annotated[tuple[Link, ...], Field(max_length=10)] = ()
    family: Annotated[
        str | None,
        Field(min_length=1, max_length=40, description="kind of model; boards can be filtered"),
    ] = None
    licence: Annotated[str, Field(min_length=1, max_length=80)]
    training_data: Annotated[str, Field(min_length=1, max_length=300)]
    note: Annotated[str, Field(max_length=2000)] = ""


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
