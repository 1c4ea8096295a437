"""The entries of a folder that hold: nothing of one is believed that was not verified here."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.evidence.bundle import Evidence
from genrobust.evidence.entries import LoadedEntry, attack_folders, entry_folders, read_alone
from genrobust.evidence.entry import Depth, Verification
from genrobust.records.record import Record
from genrobust.verify.consistency import flags_of
from genrobust.verify.verify import Verified, VerifyOptions, verify

#: What latents are in words, such as "10 Gaussian + one 10-way categorical": no address or command.
LATENTS = re.compile(r"[A-Za-z0-9 +,()-]{1,200}")


def verified_entries(
    root: Path, depth: Depth = "schema", data_root: str | Path | None = None
) -> tuple[LoadedEntry, ...]:
    """All entries below ``root`` that pass a verification, with the attacks that do.

    What does not pass, or cannot be told, is left out with a warning: it takes neither a place nor
    the board of the others with it, nor does an attack the model that it is on.

    Args:
        root: holds ``SUITE-vVERSION/SLUG/entry.json`` and what belongs to it.
        depth: how deep each is verified now. For ``schema``, badges are those of the
            ``verification.json`` beside each entry, which is trusted as far as the branch that it
            is on; deeper, they are of what was verified now, and none is read.
        data_root: the folder with the data sets, which a deeper one needs.

    Raises:
        GenrobustError: there is no such folder.

    Example:
        >>> import tempfile
        >>> verified_entries(Path(tempfile.mkdtemp()))
        ()
    """
    options = VerifyOptions(depth, data_root=data_root)
    models = [one for folder in entry_folders(root) if (one := _verified(folder, options))]
    return tuple(
        replace(
            model,
            attacks=tuple(
                attack
                for folder in attack_folders(model.folder)
                if (attack := _verified(folder, options))
            ),
        )
        for model in models
    )


def _verified(folder: Path, options: VerifyOptions) -> LoadedEntry | None:
    """The entry of a folder with its badge; None, and a warning, if it does not hold."""
    found = _found(folder, options)
    if found is None or found.subject is None or not found.verification.passed:
        if found is not None:
            wrong = next(check for check in found.verification.checks if not check.passed)
            _warn(f"'{folder}' is left out: {wrong.name}: {wrong.detail}")
        return None
    entry = found.subject.entry
    assert entry is not None
    verification = found.verification if found.verification.depth != "schema" else _badge(folder)
    entry = replace(entry, verification=verification)
    return replace(entry, record=_shown(entry, found.subject.evidence))


def _badge(folder: Path) -> Verification | None:
    try:
        return read_alone(folder).verification
    except GenrobustError as problem:
        _warn(f"'{folder}' counts as not verified: {problem}")
        return None


def _shown(entry: LoadedEntry, evidence: Evidence) -> Record:
    """The record with no words of its submitter's where pages speak in genrobust's name.

    Flags are said anew from the signs, how to mend a misreading is left out, and what a model says
    of itself too, as long as no replay has compared it with the model.
    """
    record, model = entry.record, entry.record.model
    told = record.fidelity
    if told is not None:
        told = replace(
            told, what="" if told.status == "equal" else "by its own run's word", mend=""
        )
    if entry.state not in ("replay", "re-attack"):
        model = model.model_copy(update={"spec": {}, "card": None})
        if LATENTS.fullmatch(model.latents) is None:
            model = model.model_copy(update={"latents": "unknown"})
    flags = flags_of(record.suite, evidence.outcome)
    return record.model_copy(update={"flags": flags, "fidelity": told, "model": model})


def _found(folder: Path, options: VerifyOptions) -> Verified | None:
    """A verification; where its depth cannot be told, as without the model, of the schema."""
    try:
        return verify(folder, options)
    except GenrobustError as problem:
        if options.depth != "schema":
            _warn(f"'{folder}' is verified as deep as schema alone: {problem}")
            return _found(folder, VerifyOptions("schema"))
        _warn(f"'{folder}' is left out: {problem}")
        return None


def _warn(words: str) -> None:
    warnings.warn(words, GenrobustWarning, stacklevel=2)
