"""A record whose evidence was replayed: the only kind that is published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genrobust.errors import GenrobustError
from genrobust.evidence.bundle import EVIDENCE
from genrobust.evidence.entries import sha256_of
from genrobust.records.record import Record
from genrobust.runner.execute import Progress, silent
from genrobust.verify.subject import no_evidence
from genrobust.verify.verify import VerifyOptions, verify


@dataclass(frozen=True)
class Replayed:
    """A record, and where the evidence is that gives its scores.

    Args:
        record: without flags.
        sha256: of the evidence that was replayed.
        url: where others can have that evidence.

    Example:
        >>> Replayed(record=None, sha256="ab12", url="https://example.org/evidence.zip").source
        'https://example.org/evidence.zip#sha256=ab12'
    """

    record: Record
    sha256: str
    url: str

    @property
    def source(self) -> str:
        """The address, with the hash of what must lie there."""
        return f"{self.url}#sha256={self.sha256}"


def replay_run(
    path: str | Path,
    url: str,
    options: VerifyOptions | None = None,
    on_progress: Progress = silent,
) -> Replayed:
    """Replay a run's evidence, so that what is published is what it gives.

    Args:
        path: a run's folder with ``evidence.zip`` in it, an entry's, or the archive itself.
        url: where others can have that archive: ``https://...``.
        options: what the replay needs that is not in the evidence.
        on_progress: called with the shards done, parts included, those in all, and what is done.

    Raises:
        GenrobustError: there is no evidence, the replay failed or cannot be told, the record is
            flagged, or the address is none.

    Example:
        >>> from genrobust.publish import write_card
        >>> found = replay_run("run", "https://example.org/evidence.zip")  # doctest: +SKIP
        >>> write_card("README.md", found)  # doctest: +SKIP
        PosixPath('README.md')
    """
    if not url.startswith("https://") or "#" in url or not url.isprintable():
        raise GenrobustError(
            f"'{url}' is no address of the evidence; say where others can have it, such as "
            "https://huggingface.co/OWNER/NAME/resolve/main/evidence.zip"
        )
    place = Path(path)
    archive = place / EVIDENCE if place.is_dir() else place
    if not archive.is_file():
        raise no_evidence(archive)
    digest = sha256_of(archive)
    found = verify(archive, options or VerifyOptions("replay"), on_progress=on_progress)
    for check in found.verification.checks:
        if not check.passed:
            raise GenrobustError(
                f"'{archive}' does not give its scores ({check.name}: {check.detail}); run "
                "'genrobust bench' again with --evidence"
            )
    assert found.subject is not None
    record = found.subject.evidence.record
    if record.flags:
        names = ", ".join(dict.fromkeys(flag.name for flag in record.flags))
        raise GenrobustError(
            f"the scores of '{archive}' are flagged ({names}) and may be too high, so that they "
            "are not published; the run's report.html says what to do about each flag"
        )
    return Replayed(record, digest, url)
