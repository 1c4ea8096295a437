"""What lies beside a record: what became of each source, and the pictures of a few."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import PrivateAttr, ValidationError

from genrobust import files
from genrobust.errors import GenrobustError, in_a_line
from genrobust.records.again import again
from genrobust.records.examples import EXAMPLES, Example, read_examples, written_examples
from genrobust.records.outcomes import OUTCOMES, Outcomes, check_outcomes
from genrobust.suites.suite import Frozen

if TYPE_CHECKING:
    from genrobust.records.curve_record import MinimumNormRecord
    from genrobust.records.record import Record

Kept = TypeVar("Kept", bound="Beside")

#: What of a record no other run gives; a record of either kind has only some of it.
_GIVEN: dict[str, bool | dict[str, bool]] = {
    "provenance": {"shards": True},
    "scores": True,
    "sources": True,
}


@dataclass(frozen=True)
class AtHand:
    """In memory, or in the folder that a record was read from.

    It is no part of what a record says: records are equal whatever is at hand.
    """

    outcomes: Outcomes | None = field(default=None, compare=False)
    examples: Sequence[Example] | None = field(default=None, compare=False, repr=False)
    folder: Path | None = field(default=None, compare=False)

    def outcomes_of(self, record: Record) -> Outcomes:
        """What became of each source.

        Raises:
            GenrobustError: that is not at hand, or is of another run.
        """
        if self.outcomes is not None:
            return self.outcomes
        path = self._path(OUTCOMES, record.model.name)
        try:
            found = Outcomes.model_validate_json(files.read_text(path))
            check_outcomes(record, found)
        except OSError as problem:
            raise _unread(path, record.command) from problem
        except ValueError as problem:
            reason = in_a_line(problem) if isinstance(problem, ValidationError) else str(problem)
            raise GenrobustError(
                f"'{path}' is not of the record beside it ({reason}); "
                f"{again(path.parent, record.command)}"
            ) from problem
        return found

    def examples_of(self, record: Record | MinimumNormRecord) -> Sequence[Example]:
        """The pictures of a few sources.

        Raises:
            GenrobustError: they are not at hand, damaged, or of another run.
        """
        if self.examples is not None:
            return self.examples
        path = self._path(EXAMPLES, record.model.name)
        try:
            found, run = read_examples(files.read_bytes(path), path)
        except OSError as problem:
            raise _unread(path, record.command) from problem
        except GenrobustError as problem:
            raise GenrobustError(
                f"'{path}' is damaged, or no file of a run's pictures; "
                f"{again(path.parent, record.command)}"
            ) from problem
        if run not in (None, _run_of(record)):
            raise GenrobustError(
                f"'{path}' has pictures of another run, which took the place of that of "
                f"'{record.model.name}'; measure it again by '{record.command}', into a folder of "
                "its own, and load the record from there"
            )
        return found

    def _path(self, name: str, model: str) -> Path:
        if self.folder is None:
            raise GenrobustError(
                f"what became of the single sources is not at hand for the record of '{model}', "
                f"which came without its run; load it from the run's folder, which has {name}: "
                "Record.load('genrobust-runs/...'), or measure it with bench(..., out=FOLDER)"
            )
        return self.folder / name


class Beside(Frozen):
    """A record that knows what lies beside it."""

    _at_hand: AtHand = PrivateAttr(default_factory=AtHand)

    @property
    def at_hand(self) -> AtHand:
        """What there is besides what the record says."""
        return self._at_hand

    def beside(self: Kept, at_hand: AtHand) -> Kept:
        """The same record with that at hand."""
        found = self.model_copy()
        found._at_hand = at_hand
        return found


def write_beside(folder: Path, record: Beside) -> None:
    """Write what a record has in memory to its run's folder, where :class:`AtHand` finds it again.

    Raises:
        GenrobustError: the folder cannot be written.
    """
    at_hand, contents = record.at_hand, {}
    if at_hand.outcomes is not None:
        contents[OUTCOMES] = at_hand.outcomes.model_dump_json().encode() + b"\n"
    if at_hand.examples:
        contents[EXAMPLES] = written_examples(at_hand.examples, _run_of(record))
    for name, content in contents.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            files.write_bytes(path, content)


def _run_of(record: Beside) -> str:
    """What tells a record's run from others: a hash of its shards, and of what they gave."""
    return hashlib.sha256(record.model_dump_json(include=_GIVEN).encode()).hexdigest()


def _unread(path: Path, command: str) -> GenrobustError:
    return GenrobustError(f"'{path}' cannot be read; {again(path.parent, command)}")
