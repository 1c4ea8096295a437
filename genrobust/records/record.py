"""The record of a run: what was measured, on what, how, at what cost. Its fields are its docs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from genrobust.models.checks.fidelity import Fidelity
from genrobust.records import display
from genrobust.records.at_hand import Beside
from genrobust.suites.suite import Frozen, Suite, spelled_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from genrobust.records.compare import Comparison

SCHEMA_VERSION = 3


class Estimate(Frozen):
    """A mean over sources with its bootstrap interval (percentile, over sources)."""

    value: float
    low: float
    high: float
    n: Annotated[int, Field(description="sources in the mean")]


class PairMatrix(Frozen):
    """A rate per (source class, target class): rows are sources; None where n is 0."""

    rate: tuple[tuple[float | None, ...], ...]
    n: tuple[tuple[int, ...], ...]


class EpsScores(Frozen):
    """The worst case over all attacks of the suite at one radius, smaller radii included."""

    eps: float
    robust_accuracy: Annotated[
        Estimate,
        Field(
            description="share of all sources that are eligible and whose reconstruction no attack "
            "changed to another class"
        ),
    ]
    as_ignore_target: Annotated[
        Estimate | None,
        Field(
            description="share of the eligible sources (input and clean reconstruction judged "
            "right) for which an attack's reconstruction shows another class; None without "
            "eligible sources"
        ),
    ]
    as_target: Annotated[Estimate | None, Field(description="likewise, showing the target's class")]
    as_ignore_target_macro: Annotated[
        float | None, Field(description="the unweighted mean of the pairs' rates")
    ]
    as_target_macro: float | None
    as_target_of_wrong: Annotated[
        float | None,
        Field(description="share of those with another class that show the target's"),
    ]
    as_ignore_target_pairs: PairMatrix
    as_target_pairs: PairMatrix
    linf: Annotated[
        float | None, Field(description="mean L-inf norm of the successful perturbations")
    ]
    l2: Annotated[float | None, Field(description="mean L2 norm of the successful perturbations")]
    reconstruction_shift: Annotated[
        float | None,
        Field(description="mean L2 distance of attacked to clean reconstructions, of successes"),
    ]
    source_similarity: Annotated[
        float | None,
        Field(description="MS-SSIM for small images of source and attacked image, of successes"),
    ]
    reconstruction_similarity: Annotated[
        float | None, Field(description="likewise of clean and attacked reconstruction")
    ]
    latent_displacement: Annotated[
        float | None,
        Field(description="mean distance of means and centred logits, of successes"),
    ]
    symmetric_kl: Annotated[
        float | None,
        Field(description="mean symmetric KL of the two posteriors in nats, of successes"),
    ]
    token_flips: Annotated[
        float | None,
        Field(
            exclude_if=lambda value: value is None,
            description="mean share of the code's discrete choices (categories, entries of "
            "codebooks) that the attack changed, of successes; None where there are none, and in "
            "records that were made before it was measured",
        ),
    ] = None


class Picture(Frozen):
    """What reconstructions are like: means over all sources, eligible or not."""

    distance: Annotated[Estimate, Field(description="L2 distance from the source")]
    shift: Annotated[float | None, Field(description="L2 distance from the clean reconstruction")]
    similarity: Annotated[
        float | None,
        Field(description="MS-SSIM for small images with the source; None below 7 pixels"),
    ]


class DamageAt(Frozen):
    """The damage inside one ball."""

    eps: float
    attacked: Annotated[
        Picture,
        Field(
            description="the reconstructions that are farthest from their sources, of those that a "
            "short search for damage and the suite's attacks found; all sources are searched, and "
            "the search is not counted among the forwards and backwards"
        ),
    ]
    noise: Annotated[Picture, Field(description="of random noise on the border of the ball")]
    to_target: Annotated[
        float | None,
        Field(
            description="how much of the L2 distance from the clean reconstruction to the target's "
            "was left by a short search for the target: 1 where nothing moved, 0 at the target's"
        ),
    ]


class Damage(Frozen):
    """What the pictures became, by no judge and no labels; measured for ensembles."""

    clean: Picture
    constant: Annotated[
        float,
        Field(
            description="mean L2 distance from the sources of the best picture that is the same "
            "for all: the mean of the data set's other images"
        ),
    ]
    reconstructed: Annotated[
        Estimate,
        Field(
            description="share of all sources whose clean reconstruction is nearer than 0.9 of "
            "that picture's distance from them"
        ),
    ]
    per_eps: tuple[DamageAt, ...]


class Flag(Frozen):
    """A sign that a score may be too high, because attacks were hindered or sources are few."""

    name: str
    evidence: Annotated[str, Field(description="what was measured, in words")]
    value: Annotated[float, Field(description="the share that was measured")]
    limit: Annotated[float, Field(description="the share beyond which the flag is raised")]


class Scores(Frozen):
    """What the suite measured."""

    sources: int
    eligible: int
    clean_accuracy: Annotated[
        Estimate, Field(description="share of sources whose clean reconstruction shows their class")
    ]
    reconstruction_error: Annotated[
        Estimate, Field(description="squared error of the clean reconstruction, summed over pixels")
    ]
    kl: Annotated[
        Estimate | None,
        Field(
            description="KL of the clean posterior to the prior, in nats; None where it is beyond "
            "every number, and in records that were made before it was measured"
        ),
    ]
    total_correlation: Annotated[
        float | None,
        Field(
            description="of the latent means over the sources, taken as Gaussian, in nats; lower "
            "is more disentangled; None with too few sources for the latents"
        ),
    ]
    robust_area: Annotated[
        Estimate | None,
        Field(
            description="robust accuracy averaged over radii from 0 to the largest (trapezoids); "
            "None if the grid has no radius above 0"
        ),
    ]
    eps50: Annotated[
        float | None,
        Field(
            description="the radius, interpolated, at which half of the eligible sources have "
            "fallen; None if it is above the largest"
        ),
    ]
    per_eps: tuple[EpsScores, ...]
    damage: Annotated[
        Damage | None,
        Field(
            exclude_if=lambda value: value is None,
            description="None in records that were made before it was measured, and where attacks "
            "are run by themselves",
        ),
    ] = None


class AttackCost(Frozen):
    """One attack of the suite, on sources that those before it left standing; the last two rows
    are what the flags cost. A source whose class was lost is tried again in smaller balls, and
    counted each time."""

    label: str
    settings: dict[str, Any]
    tried: Annotated[tuple[int, ...], Field(description="sources attacked, per eps")]
    succeeded: Annotated[
        tuple[int, ...], Field(description="of these, how many reached the goal, per eps")
    ]
    forwards: Annotated[int, Field(description="images passed through the model")]
    backwards: Annotated[int, Field(description="gradients taken with respect to an image")]


class ModelInfo(Frozen):
    """The model as it was scored."""

    name: str
    reference: str
    fingerprint: str
    spec: dict[str, Any]
    input_shape: tuple[int, int, int]
    latents: str
    code_size: int
    parameters: int
    draws: Annotated[
        int, Field(description="draws of a random deployment for each score; 1 if not random")
    ]
    deploy: Annotated[
        bool, Field(description="whether the deployed path is one of its own, not differentiated")
    ]
    card: dict[str, Any] | None


class DataInfo(Frozen):
    """The split the samples were taken from."""

    name: str
    split: str
    sha256: str


class JudgeInfo(Frozen):
    name: str
    sha256: str
    role: str


class Provenance(Frozen):
    """What a rerun needs besides the suite and the model; equal for equal commands on a machine."""

    command: str
    genrobust: str
    python: str
    packages: dict[str, str]
    platform: str
    processor: str
    device: str
    shards: Annotated[tuple[str, ...], Field(description="keys of the shard files, in order")]


class Times(Frozen):
    """The only part that differs when the same run is repeated."""

    created: Annotated[str, Field(description="UTC, ISO 8601")]
    attack_seconds: Annotated[float, Field(description="summed over shards")]


#: A model's own forward beside how it was read.
Compared = Annotated[
    Fidelity | None,
    Field(
        exclude_if=lambda value: value is None,
        description="whether what was scored is what the module's own forward gives, on the "
        "first sources; None in records that were made before it was compared",
    ),
]


class Record(Beside):
    """The result of benchmarking one model on one suite with one seed.

    In a terminal and a notebook it shows its scores; ``record.model_dump()`` has all fields.

    Example:
        >>> Record.model_fields["official"].description
        'the frozen suite, whole: comparable with other records of it'
        >>> Record.load("genrobust-runs/digits-v2/vae").plot_curve()  # doctest: +SKIP
        <Axes: xlabel='eps (L-inf)', ylabel='share of the sources'>
    """

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION
    official: Annotated[
        bool, Field(description="the frozen suite, whole: comparable with other records of it")
    ]
    deviations: Annotated[
        tuple[str, ...], Field(description="how the run departs from the suite, if it does")
    ]
    model: ModelInfo
    fidelity: Compared = None
    suite: Suite
    suite_sha256: str
    radii: Annotated[
        Literal["each", "from the largest"],
        Field(
            description="at which radii a source of an ensemble was attacked: at each at which, "
            "and below which, nothing broke it; or, in the first entries, from the largest "
            "down, and inside one only where it had fallen at it"
        ),
    ]
    seed: int
    data: DataInfo
    judges: tuple[JudgeInfo, ...]
    scores: Scores
    flags: Annotated[
        tuple[Flag, ...], Field(description="if there are any, the scores are not reliable")
    ]
    attacks: tuple[AttackCost, ...]
    forwards: int
    backwards: int
    provenance: Provenance
    times: Times

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """The record of a run, from its ``record.json`` or the folder that holds it.

        Raises:
            GenrobustError: that is no path; there is none, or it is not one that this version
                reads.
        """
        from genrobust.records.load import load_record

        return load_record(path)

    @property
    def command(self) -> str:
        """What repeats the run, with the version of its suite, which records may leave out."""
        return spelled_out(self.provenance.command, self.suite)

    def __repr__(self) -> str:
        return display.summary(self)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return display.page(self)

    def to_pandas(self) -> DataFrame:
        """A row a radius, a column a score, ``_low`` and ``_high`` beside what has an interval.

        The last columns are ``official`` and the names of the ``flags``, empty if there are none.

        Raises:
            GenrobustError: pandas is not installed.
        """
        return display.frame(self)

    def plot_curve(self, ax: Axes | None = None, *, label: str | None = None) -> Axes:
        """Robust accuracy over the radius with its interval, and both attack success rates.

        The legend says it where the scores are not reliable.

        Args:
            ax: matplotlib's axes to draw on; default new ones.
            label: a name for the legend; then robust accuracy alone is drawn, so that several
                records share one pair of axes.

        Returns:
            The axes.
        """
        return display.plot_curve(self, ax, label=label)

    def plot_pairs(
        self, eps: float | None = None, ax: Axes | None = None, *, classes: Sequence[str] = ()
    ) -> Axes:
        """The share of each (source class, target class) that became the target's, as a heat map.

        Args:
            eps: one of the suite's radii; default the largest.
            ax: matplotlib's axes to draw on; default new ones.
            classes: names for the ticks; default numbers.

        Returns:
            The axes.

        Raises:
            GenrobustError: the radius was not measured.
        """
        return display.plot_pairs(self, eps, ax, classes=classes)

    def plot_examples(self, *, classes: Sequence[str] = (), figure: Figure | None = None) -> Figure:
        """A few sources: the image that first broke each, the change, both reconstructions.

        What stood at every radius has no attacked image. ``figure.savefig("it.pdf")`` gives it
        for a paper.

        Args:
            classes: names for the titles; default numbers.
            figure: matplotlib's figure, or part of one, to draw on; default a new one.

        Raises:
            GenrobustError: the pictures are not at hand: they are where :func:`genrobust.bench`
                measured, and in the run's folder.

        Example:
            >>> import genrobust
            >>> record = genrobust.bench("vae", limit=2, eps=[0.1], attacks=["noise"])
            >>> len(record.plot_examples().axes)  # five rows, a column a source that is eligible
            10
        """
        found = self.at_hand.examples_of(self)
        return display.plot_examples(found, classes, figure)

    def compare(self, other: Record) -> Comparison:
        """This model's scores minus another's, each source paired with itself.

        Args:
            other: of the same suite.

        Returns:
            Differences in robust area and in robust accuracy at each radius, with intervals of the
            differences: narrower than what the two models' own intervals suggest.

        Raises:
            GenrobustError: the suites differ; what became of the single sources is not at hand.

        Example:
            >>> import genrobust
            >>> how = {"limit": 1, "eps": [0.1], "attacks": ["noise"]}
            >>> one, other = (genrobust.bench(name, **how) for name in ("jointvae", "vae"))
            >>> one.compare(other).names
            ('jointvae', 'vae')
        """
        from genrobust.records.compare import compared

        return compared(self, other)
