"""The record of a robustness curve: of each source the smallest change that was found."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from genrobust.norms import NormName
from genrobust.records.record import (
    DataInfo,
    Estimate,
    Flag,
    JudgeInfo,
    ModelInfo,
    Provenance,
    Times,
)
from genrobust.suites.suite import Frozen, Suite

CURVE_SCHEMA_VERSION = 1


class Source(Frozen):
    """One source and the nearest adversarial image that was found for it."""

    sample_id: int
    label: int
    eligible: Annotated[
        bool, Field(description="whether its class is seen in it and in its clean reconstruction")
    ]
    distance: Annotated[
        float | None,
        Field(description="None if it is not eligible, or if nothing in the box was found"),
    ]


class Radius(Frozen):
    """A radius with its bootstrap interval (percentile, over sources); None is infinity."""

    value: float | None
    low: float | None
    high: float | None


class Area(Frozen):
    """Robust accuracy averaged over the radii from 0 to the largest, exactly."""

    radius: float
    area: Estimate


class AtRadius(Frozen):
    """Robust accuracy at a radius of the suite."""

    eps: float
    robust_accuracy: Estimate


class Curve(Frozen):
    """Robust accuracy over the radius: from each radius on, up to the next, it is the value."""

    radius: Annotated[tuple[float, ...], Field(description="0 and every distance, ascending")]
    robust_accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class SearchCost(Frozen):
    """One attack, in the order of the work.

    Short ones for the flags come first, then those for the smallest change, then the suite's inside
    its radii, each on the sources whose distance lies between that radius and the next larger one.
    """

    label: str
    settings: dict[str, Any]
    tried: Annotated[int, Field(description="sources attacked; one may be at several radii")]
    nearer: Annotated[int, Field(description="of these, for how many it found a nearer image")]
    forwards: Annotated[int, Field(description="images passed through the model")]
    backwards: Annotated[int, Field(description="gradients taken with respect to an image")]


class MinimumNormRecord(Frozen):
    """The smallest perturbations of one model on one suite's sources, and what follows from them.

    A distance is that of an image that was found and judged, so it is an upper bound of the
    smallest.

    Example:
        >>> MinimumNormRecord.model_fields["found"].description
        'eligible sources with an adversarial image'
    """

    schema_version: Annotated[int, Field(ge=1, le=CURVE_SCHEMA_VERSION)] = CURVE_SCHEMA_VERSION
    deviations: Annotated[
        tuple[str, ...], Field(description="how the run departs from the suite, if it does")
    ]
    model: ModelInfo
    suite: Suite
    suite_sha256: str
    norm: NormName
    seed: int
    data: DataInfo
    judges: tuple[JudgeInfo, ...]
    flags: Annotated[
        tuple[Flag, ...], Field(description="if there are any, the distances are not reliable")
    ]
    eligible: int
    found: Annotated[int, Field(description="eligible sources with an adversarial image")]
    eps50: Annotated[
        Radius, Field(description="the smallest radius at which half of the eligible have fallen")
    ]
    median_distance: Annotated[float | None, Field(description="over the sources with one")]
    areas: Annotated[
        tuple[Area, ...], Field(description="up to the suite's largest eps, and as asked for")
    ]
    per_eps: tuple[AtRadius, ...]
    curve: Curve
    sources: tuple[Source, ...]
    searches: tuple[SearchCost, ...]
    forwards: int
    backwards: int
    provenance: Provenance
    times: Times
