"""The record of a robustness curve: of each source the smallest change that was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from genrobust.norms import NormName
from genrobust.records import display
from genrobust.records.at_hand import Beside
from genrobust.records.record import (
    Compared,
    DataInfo,
    Estimate,
    Flag,
    JudgeInfo,
    ModelInfo,
    Provenance,
    Times,
)
from genrobust.suites.suite import Frozen, Suite, spelled_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from genrobust.records.compare import Comparison

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


class MinimumNormRecord(Beside):
    """The smallest perturbations of one model on one suite's sources, and what follows from them.

    A distance is that of an image that was found and judged, so it is an upper bound of the
    smallest. In a terminal and a notebook it shows what follows from them.

    Example:
        >>> MinimumNormRecord.model_fields["found"].description
        'eligible sources with an adversarial image'
    """

    schema_version: Annotated[int, Field(ge=1, le=CURVE_SCHEMA_VERSION)] = CURVE_SCHEMA_VERSION
    deviations: Annotated[
        tuple[str, ...], Field(description="how the run departs from the suite, if it does")
    ]
    model: ModelInfo
    fidelity: Compared = None
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

    @classmethod
    def load(cls, path: str | Path) -> MinimumNormRecord:
        """The record of a run, from its ``curve.json`` or the folder that holds it.

        Raises:
            GenrobustError: that is no path; there is none, or it is not one that this version
                reads.
        """
        from genrobust.records.load import load_curve

        return load_curve(path)

    @property
    def command(self) -> str:
        """What repeats the run, with the version of its suite, which records may leave out."""
        return spelled_out(self.provenance.command, self.suite)

    def __repr__(self) -> str:
        return display.curve_summary(self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return display.curve_page(self)

    def to_pandas(self) -> DataFrame:
        """A row a source: its id, its label, whether it is eligible, its distance or NaN.

        The last column is the names of the run's flags, empty if there are none.

        Raises:
            GenrobustError: pandas is not installed.
        """
        return display.curve_frame(self)

    def plot_curve(self, ax: Axes | None = None, *, label: str | None = None) -> Axes:
        """Robust accuracy over the radius, a step at each source's distance, with its interval.

        The legend says it where the distances are not reliable.

        Args:
            ax: matplotlib's axes to draw on; default new ones.
            label: a name for the legend; default the model's.

        Returns:
            The axes.
        """
        return display.plot_steps(self, ax, label=label)

    def plot_examples(self, *, classes: Sequence[str] = (), figure: Figure | None = None) -> Figure:
        """As :meth:`Record.plot_examples`, with the nearest image that was found for each source.

        Raises:
            GenrobustError: the pictures are not at hand.
        """
        found = self.at_hand.examples_of(self)
        return display.plot_examples(found, classes, figure)

    def compare(self, other: MinimumNormRecord) -> Comparison:
        """This model's curve minus another's, each source paired with itself.

        The area is that up to the suite's largest radius.

        Raises:
            GenrobustError: the suites differ.
        """
        from genrobust.records.compare import compared_curves

        return compared_curves(self, other)
