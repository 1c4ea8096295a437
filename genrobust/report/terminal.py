"""What a bench prints at its end: a table, and what must be known to read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from genrobust.norms import load_norm
from genrobust.records.curve_record import MinimumNormRecord
from genrobust.records.record import Estimate, Record
from genrobust.rules.base import RULES

CURVE_LEGEND = """\
eps50: the radius at which half of the eligible sources have fallen; [95% interval]
robust area: robust accuracy averaged over all radii up to one"""


def score_table(records: Sequence[Record]) -> Group:
    """A row per model and radius, in percent; below it, what makes a number unreliable."""
    suite = records[0].suite
    legend = RULES.get(suite.rule).words.legend
    notes = [legend, *map(_damage, records), *_notes(records)]
    return Group(_Scores(records), _text("\n".join(filter(None, notes))))


@dataclass(frozen=True)
class _Scores:
    """A table; where the terminal is too narrow for it, lines."""

    records: Sequence[Record]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        # Names fold; numbers do not.
        numbers = Measurement.get(console, options.update(max_width=1000), self._table(named=False))
        if numbers.maximum <= options.max_width:
            yield self._table()
        else:
            yield from self._lines()

    def _table(self, named: bool = True) -> Table:
        table = Table(title=_text(self._title))
        table.add_column("model", overflow="fold", min_width=8)
        for head in (f"{self._norm} eps", *(f"{name} %" for name in _HEADS)):
            table.add_column(head, justify="right", no_wrap=True)
        for record in self.records:
            name = _text(record.model.name if named else "")
            for radius, values in _rows(record):
                table.add_row(name, radius, *values)
                name = _text("")
            table.add_section()
        return table

    def _lines(self) -> Iterator[Text]:
        yield _text(self._title)
        for record in self.records:
            yield _text(f"model {record.model.name}")
            for radius, values in _rows(record):
                words = [f"{n} {v}" for n, v in zip(_HEADS, values, strict=True) if v]
                where = radius if radius == "clean" else f"{self._norm} eps {radius}"
                yield _text(f"  {where}, in %: {'; '.join(words)}")

    @property
    def _title(self) -> str:
        suite = self.records[0].suite
        return f"{suite.name} v{suite.version}"

    @property
    def _norm(self) -> str:
        return load_norm(self.records[0].suite.norm).ascii_label


_HEADS = ("robust accuracy", "changed", "to target")


def _rows(record: Record) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """A radius and its numbers, one of ``_HEADS`` each; without an attack there is but one."""
    mark = " ?" if record.flags else ""
    yield "clean", (_percent(record.scores.clean_accuracy) + mark, "", "")
    for at in record.scores.per_eps:
        yield (
            f"{at.eps:g}",
            (
                _percent(at.robust_accuracy) + mark,
                _percent(at.as_ignore_target),
                _percent(at.as_target),
            ),
        )


def curve_table(record: MinimumNormRecord) -> Group:
    """What the smallest changes say of a model: a column of names and one of numbers."""
    eps50, norm = record.eps50, load_norm(record.norm).ascii_label
    suite = record.suite
    table = Table(title=_text(f"{record.model.name} on {suite.name} v{suite.version}"))
    table.add_column("smallest changes", overflow="fold")
    table.add_column(norm, justify="right", overflow="fold")
    low, high = _radius(eps50.low), _radius(eps50.high)
    table.add_row("eps50", f"{_radius(eps50.value)} [{low}, {high}]")
    for up_to in record.areas:
        table.add_row(f"robust area % to eps {up_to.radius:.4g}", _percent(up_to.area))
    for at in record.per_eps:
        table.add_row(f"robust accuracy % at eps {at.eps:.4g}", _percent(at.robust_accuracy))
    table.add_row("median distance", _radius(record.median_distance))
    table.add_row("found, of the eligible", f"{record.found} of {record.eligible}")
    table.add_row("attack seconds", f"{record.times.attack_seconds:.0f}")
    return Group(table, _text("\n".join([CURVE_LEGEND, *_notes([record])])))


def _text(words: str) -> Text:
    """As it stands: a user's names are no markup, and no codes for the terminal."""
    return Text("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in words))


def _damage(record: Record) -> str:
    """What the pictures became in the largest ball, in a sentence."""
    found = record.scores.damage
    if found is None:
        return ""
    last, clean = found.per_eps[-1], found.clean
    told = (
        f"{record.model.name}, reconstructions at eps {last.eps:g}: L2 from the source "
        f"{last.attacked.distance.value:.2f} attacked, {last.noise.distance.value:.2f} by noise, "
        f"{clean.distance.value:.2f} clean, {found.constant:.2f} one picture for all"
    )
    shares = (last.attacked.similarity, last.noise.similarity, clean.similarity)
    if None not in shares:
        told += "; MS-SSIM " + ", ".join(f"{share:.2f}" for share in shares)
    if last.to_target is not None:
        told += f"; {last.to_target:.0%} of the way left to the target's"
    return told


def _radius(value: float | None) -> str:
    return "above all" if value is None else f"{value:.4g}"


def _notes(records: Sequence[Record | MinimumNormRecord]) -> list[str]:
    flags = [f"? {r.model.name} is not reliable: {f.evidence}" for r in records for f in r.flags]
    for record in records:
        found = record.fidelity
        if found is not None and found.status == "differs":
            flags.append(f"! {record.model.name} may be misread: {found}")
    deviations = sorted({d for record in records for d in record.deviations})
    return flags + ([f"not official: {'; '.join(deviations)}"] if deviations else [])


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.0f}, {100 * estimate.high:.0f}]"
