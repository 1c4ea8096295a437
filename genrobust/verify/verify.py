"""Verify an entry or evidence in three depths, each of which includes those before it."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import torch

from genrobust import files
from genrobust._version import __version__
from genrobust.arguments import whole_seed
from genrobust.data.base import Images, data_at, is_reference, load_images
from genrobust.data.reference import Reference, images_beside, lying_at
from genrobust.errors import GenrobustError, unknown_name
from genrobust.evidence.bundle import EVIDENCE, Evidence
from genrobust.evidence.checks import NamedCheck, RejectionError, rejecting, run_checks
from genrobust.evidence.entries import VERIFICATION, read_alone, sha256_of
from genrobust.evidence.entry import Check, Depth, ExternalModel, Verification
from genrobust.judges.load import is_code
from genrobust.models.checks.check import check_model
from genrobust.models.model import GenerativeModel
from genrobust.models.zoo import load_model
from genrobust.records.record import Record
from genrobust.rules.base import RULES
from genrobust.runner.execute import Progress, silent
from genrobust.runner.prepare import CHECKED
from genrobust.suites.suite import Suite
from genrobust.verify import consistency, reattack
from genrobust.verify import replay as replaying
from genrobust.verify.capacity import measured_rate, rate_limit
from genrobust.verify.generality import OTHERS, require_alone, require_general
from genrobust.verify.pictures import check_pictures
from genrobust.verify.replay import Replay
from genrobust.verify.subject import ENTRY, Subject, find_subjects, read_subject

#: What each depth proves, and what it does not.
PROVES: dict[Depth, str] = {
    "schema": "the files are whole and agree with each other; not that any of it was measured",
    "replay": "the stored adversarial inputs are inside the threat model, do to this model what is "
    "claimed, and give every score; not that attacks were as strong as the suite says, so that the "
    "model may be less robust than claimed",
    "re-attack": "a part of the run comes out as claimed when it is run again, and stronger "
    "attacks and the inputs that broke other models break no more than the claim's interval "
    "allows; not that no attack can",
}
DEPTHS: tuple[Depth, ...] = ("schema", "replay", "re-attack")


@dataclass(frozen=True)
class VerifyOptions:
    """How deep to go, and with what.

    Args:
        depth: the last depth.
        model: for a model that is not in the evidence: a zoo name, ``FILE.py:FUNCTION`` or
            ``PACKAGE.MODULE:FUNCTION``.
        weights: what to load into it.
        data: for pictures that are of no registered data set: where they lie on this machine, a
            folder, a ``.npz`` or ``.npy``, ``FILE.py:FUNCTION`` or ``PACKAGE.MODULE:FUNCTION``. How
            they are drawn, cropped and sized is said in the evidence, and their hash.
        trust_code: whether code may be run that ``model``, ``data`` and the suite's judges name.
        data_root: the folder with the data set.
        share: of the run, and of the sources, that a re-attack takes.
        seed: draws them; None draws a seed.
        workers: shards at a time.
    """

    depth: Depth = "replay"
    model: str | None = None
    weights: Path | None = None
    data: str | None = None
    trust_code: bool = False
    data_root: str | Path | None = None
    share: float = 0.1
    seed: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise GenrobustError(f"--share is {self.share}; it must be above 0 and at most 1")
        if self.workers is not None and self.workers < 1:
            raise GenrobustError(f"--workers is {self.workers}; it must be 1 or more")
        if self.seed is not None:
            whole_seed(self.seed)


def depth_of(name: str) -> Depth:
    """The depth of that name.

    Raises:
        GenrobustError: there is none.
    """
    for depth in DEPTHS:
        if depth == name:
            return depth
    raise unknown_name("depth", name, DEPTHS)


@dataclass(frozen=True, eq=False)
class Verified:
    """A verification, and what it recomputed on the way; no replay if it did not come so far."""

    verification: Verification
    subject: Subject | None
    replay: Replay | None


def verify(
    path: str | Path,
    options: VerifyOptions | None = None,
    *,
    model: GenerativeModel | None = None,
    on_progress: Progress = silent,
) -> Verified:
    """Verify one folder of an entry or of a run, or one archive of evidence.

    Nothing that was submitted is executed, unpickled or imported, but for what ``options.model``
    and the suite's judges name, with ``trust_code``. Nothing is written.

    Args:
        path: what to verify.
        options: how deep.
        model: one at hand, in place of that of the evidence.
        on_progress: called with the shards done, parts included, those in all, and what is done.

    Returns:
        The result; what does not hold is a check that did not pass, with the reason.

    Raises:
        GenrobustError: it cannot be told: no such path, an option, data set, judge, plugin or
            memory is missing or wrong, the model is not in the evidence and was not given.

    Example:
        >>> verify("nowhere")
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: there is nothing at 'nowhere'; name an entry's folder, ...
    """
    options, place, began = options or VerifyOptions(), Path(path), time.perf_counter()
    if not place.exists():
        raise GenrobustError(
            f"there is nothing at '{place}'; name an entry's folder, a folder of entries such as "
            "leaderboard/entries, or an evidence.zip"
        )
    _require_clock()
    work = _Work(options, model, on_progress)
    # A plugin's suite may look for its data.
    with data_at(options.data_root), lying_at(options.data):
        checks = work.all_checks(place)
    depth: Depth = options.depth
    if work.subject is not None and work.subject.is_attack and depth == "re-attack":
        depth = "replay"  # its inputs are their own proof: nothing is claimed to withstand
    verification = Verification(
        depth=depth,
        passed=all(check.passed for check in checks),
        checks=tuple(checks),
        entry_sha256=_identity(place),
        genrobust=__version__,
        platform=f"{platform.system()} {platform.machine()}",
        date=datetime.now(timezone.utc).date().isoformat(),
        seconds=round(time.perf_counter() - began, 2),
        rate=work.rate,
    )
    return Verified(verification, work.subject, work.replay)


def _require_clock() -> None:
    """By a clock that was never set all that was made is of days to come: no verdict on it."""
    today = datetime.now(timezone.utc).date()
    if today < consistency.FIRST_DAY:
        raise GenrobustError(
            f"the clock of this machine says that it is {today}, before anything was measured; "
            "set it, as what is verified is dated"
        )


def write_verification(verified: Verified, folder: Path) -> None:
    """Write ``verification.json`` into an entry's folder.

    One that is there, of the same files, deeper and passed, stays if this one passed as well.
    """
    found = verified.verification
    before = _earlier(verified.subject)
    deeper = before is not None and DEPTHS.index(before.depth) > DEPTHS.index(found.depth)
    if before is not None and before.passed and deeper and found.passed:
        return
    files.write_text(folder / VERIFICATION, found.model_dump_json(indent=1) + "\n")


def _earlier(subject: Subject | None) -> Verification | None:
    """What was verified of these very files before; None too if that cannot be read."""
    if subject is None or subject.entry is None:
        return None
    try:
        return read_alone(subject.entry.folder).current_verification
    except GenrobustError:
        return None


class _Work:
    """One verification under way: what was read and recomputed so far."""

    def __init__(
        self, options: VerifyOptions, model: GenerativeModel | None, on_progress: Progress
    ) -> None:
        self.options, self.model, self.on_progress = options, model, on_progress
        self.subject: Subject | None = None
        self.replay: Replay | None = None
        self.rate: float | None = None

    def all_checks(self, path: Path) -> list[Check]:
        """The checks of every group, up to the first group of which one did not pass."""
        done: list[Check] = []
        for group in self._groups(path):
            done += run_checks(group)
            if not all(check.passed for check in done):
                break
        return done

    def _groups(self, path: Path) -> Iterator[list[NamedCheck]]:
        yield [("files", lambda: self._read(path))]
        subject = self.subject
        assert subject is not None
        yield from consistency.checks(subject)
        if self.options.depth == "schema":
            return
        yield [("model loaded", lambda: self._load(subject))]
        found, model = self.replay, self.model
        assert found is not None
        assert model is not None
        given, entry = self.options.seed, subject.entry
        seed = int.from_bytes(os.urandom(6), "big") if given is None else given
        suite, images = subject.evidence.record.suite, found.prepared.loaded.images
        pool = partial(images_beside, suite.dataset, suite.split, OTHERS, self.options.data_root)
        others: list[NamedCheck] = [
            # Images that the submitter could not know would be looked at, in batches likewise.
            ("other batches", lambda: _try_batches(found, model, seed)),
            ("other images", lambda: require_general(model, pool(), suite, seed)),
            ("code", lambda: self._measure_code(model, images, suite, seed)),
        ]
        if entry is not None:
            drawn = found.outcome, found.elsewhere
            others.append(("pictures", lambda: check_pictures(entry, model, *drawn)))
        if (on := subject.on) is not None:
            own = on.outcomes.worst
            others.append(("gains", lambda: replaying.check_gains(found, own)))
        yield [*replaying.checks(found), *((name, rejecting()(check)) for name, check in others)]
        if self.options.depth == "replay" or subject.is_attack:
            return
        choice = reattack.choose(subject.evidence, self.options.share, seed)
        yield reattack.checks(found, choice, _others(subject), self.on_progress)

    def _read(self, path: Path) -> str:
        self.subject = read_subject(path)
        size = (path if path.is_file() else path / EVIDENCE).stat().st_size
        record = self.subject.evidence.record
        return (
            f"whole, of the schema and with the hashes that are named; {size:,} bytes of evidence, "
            f"record of version {record.schema_version} by genrobust {record.provenance.genrobust}"
        )

    def _load(self, subject: Subject) -> str:
        """Load what a replay needs, and replay."""
        evidence, options = subject.evidence, self.options
        suite = evidence.record.suite
        _require_place(suite, options)
        images = load_images(suite.dataset, suite.split, options.data_root)
        if images.sha256 != suite.data_sha256:
            where = f"'{suite.dataset}' here" if options.data is None else f"'{options.data}'"
            anew = "fetch the data set anew" if options.data is None else "give those of the run"
            raise GenrobustError(
                f"the {suite.split} images of {where} are not those of the suite (sha256 "
                f"{images.sha256[:12]}, expected {suite.data_sha256[:12]}); {anew}"
            )
        _check_fits(evidence, images)
        _check_trust(suite, options)
        model = self.model or _model(subject, options)
        _check_takes(evidence, model, images)
        self.model = model
        prepared = replaying.prepared_for(evidence, model, options.workers, options.data_root)
        detail = replaying.check_model(evidence, prepared)
        with rejecting():
            self.replay = replaying.replay(evidence, prepared, self.on_progress)
        return detail

    def _measure_code(self, model: GenerativeModel, images: Images, suite: Suite, seed: int) -> str:
        """How much the code carries, and whether a model with it can be ranked."""
        limit = rate_limit(suite, model.input_shape)
        rate = self.rate = measured_rate(model, images, suite, seed)
        carried = f"it carries {rate:,.1f} nats of an image, and ranked models {limit:,.1f} at most"
        return carried + (": a reference line, without a rank" if rate > limit else "")


def _try_batches(found: Replay, model: GenerativeModel, seed: int) -> str:
    """Put the images that were scored to the model again, in batches of the verifier's."""
    clean = found.outcome.clean
    assert clean is not None
    x, scored = [clean.source], [clean.reconstruction]
    for broken in (found.outcome.untargeted, found.outcome.targeted):
        assert broken.effect is not None
        x.append(broken.effect.x_adv)
        scored.append(broken.effect.reconstruction)
    suite = found.evidence.record.suite
    return require_alone(model, torch.cat(x), torch.cat(scored), suite, seed)


def _require_place(suite: Suite, options: VerifyOptions) -> None:
    """Pictures of one's own are read where this machine's user says, and code by leave."""
    name, own = suite.dataset, is_reference(suite.dataset)
    registered = not own or Reference.parse(name).is_of_registered
    if registered and options.data is not None:
        raise GenrobustError(
            f"the evidence is of the data set '{name}', which is registered, and --data is for "
            "pictures of one's own; leave it out (--data-root says where a data set lies)"
        )
    if registered:
        return
    if options.data is None:
        raise GenrobustError(
            f"the pictures {name[:60]!a} are named by where they lay as the run was made; say "
            "where the same ones lie here with --data, or verify no deeper than --depth schema"
        )
    given = Reference.parse(options.data)
    if given != Reference(given.place):
        raise GenrobustError(
            f"--data is '{options.data}', and how the pictures are drawn is said in the evidence; "
            f"give their place alone: --data {given.place}"
        )
    if given.is_code and not options.trust_code:
        raise GenrobustError(
            f"'{given.place}' is code that would be run; read it, and add --trust-code"
        )


def _check_fits(evidence: Evidence, images: Images) -> None:
    """The suite is one that can be scored on its images."""
    suite = evidence.record.suite
    if not all(0 <= i < len(images) for i in (*suite.sample_ids, *suite.target_ids)):
        raise RejectionError(f"the suite names images that '{suite.dataset}' does not have")
    if images.labels is None and RULES.get(suite.rule).labelled:
        raise RejectionError(f"the suite scores by judges, and '{suite.dataset}' has no labels")


def _check_trust(suite: Suite, options: VerifyOptions) -> None:
    """A judge that is code is run only by a user who said so."""
    judges = (*suite.scoring_judges, *filter(None, [suite.attacker_judge]))
    code = next((ref.architecture for ref in judges if is_code(ref.architecture)), None)
    if code is not None and not options.trust_code:
        raise GenrobustError(
            f"the suite's judge '{code}' is code that would be run; read it, and add --trust-code, "
            "or verify no deeper than --depth schema"
        )


def _check_takes(evidence: Evidence, model: GenerativeModel, images: Images) -> None:
    """The model is a sound one of the suite's images."""
    suite = evidence.record.suite
    if model.input_shape != images.shape:
        raise RejectionError(
            f"the model takes images of shape {model.input_shape}, and the suite has {images.shape}"
        )
    with rejecting():
        check_model(model, images.take(suite.sample_ids[: min(suite.chunk_size, CHECKED)]))


def _model(subject: Subject, options: VerifyOptions) -> GenerativeModel:
    """The model that needs no trust, or where there is none the one that the user named."""
    said = subject.entry.entry.model if subject.entry else subject.evidence.model
    if said is not None and not isinstance(said, ExternalModel):
        return subject.load_bundled()
    if options.model is None:
        where = f" (its weights: {said.source})" if said is not None else ""
        raise GenrobustError(
            f"'{subject.path}' cannot be replayed by itself, as its model is not in the evidence"
            f"{where}; give it with --model, --weights and, if that is code, --trust-code, or "
            "verify no deeper than --depth schema"
        )
    if ":" in options.model and not options.trust_code:
        raise GenrobustError(
            f"'{options.model}' is code that would be run; read it, and add --trust-code"
        )
    return _given_model(options.model, options.weights, said, subject.evidence.record)


def _given_model(
    reference: str, weights: Path | None, said: ExternalModel | None, record: Record
) -> GenerativeModel:
    """The model that the user named; a wrong one is the user's mistake, not the entry's."""
    model = load_model(reference, record.suite.dataset, weights)
    given = None if weights is None else sha256_of(weights)
    if said is not None and given == said.weights_sha256:
        return model  # whether it is what was scored is for the replay to say
    if model.fingerprint() != record.model.fingerprint:
        where = f"the file from {said.source}" if said is not None else "the weights of that one"
        raise GenrobustError(
            f"'{reference}' has fingerprint {model.fingerprint()[:12]}, and the model that was "
            f"scored has {record.model.fingerprint[:12]}; give that model, and as --weights {where}"
        )
    return model


def _others(subject: Subject) -> list[Path]:
    """The folders of the other entries on the same board, with the attacks on them.

    Attacks on the entry itself lower its best-known score, which is no fault of its own run.
    """
    if subject.entry is None:
        return []
    own = subject.entry.folder
    return [path for path in find_subjects(own.parent) if own not in (path, *path.parents)]


def _identity(path: Path) -> str:
    """The hash of what names everything else: entry.json, or the archive."""
    names = (path, path / ENTRY, path / EVIDENCE)
    named = next((place for place in names if place.is_file()), None)
    return hashlib.sha256(b"").hexdigest() if named is None else sha256_of(named)
