"""Made-up entries of a leaderboard that fit together: what tests of boards start from."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import genrobust
from genrobust.board.board import Board, rescored
from genrobust.evidence.entries import LoadedEntry, entry_folders, read_entry
from genrobust.evidence.entry import (
    Author,
    Check,
    Depth,
    Entry,
    Link,
    Outcomes,
    Submission,
    Verification,
    ZooModel,
)
from genrobust.records.record import Estimate, Flag, Record
from genrobust.site import build as building
from genrobust.site import serve as serving
from genrobust.suites import Suite, load_suite


@dataclass(frozen=True)
class Fake:
    """An entry to be written. ``strength`` is about its robust area; ``depth`` None: unverified."""

    slug: str = "vae"
    strength: float = 0.4
    seed: int = 0
    depth: Depth | None = "replay"
    passed: bool = True
    flags: tuple[Flag, ...] = ()
    pictures: bool = True
    attacks: tuple[Fake, ...] = ()
    submission: dict[str, Any] = field(default_factory=dict)
    #: Changes to the record and to its scores.
    record: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)


FLAG = Flag(
    name="gradients vanish",
    evidence="for 43% of the eligible sources the judge's margin has a zero gradient",
    value=0.43,
    limit=0.1,
)


def write_entries(root: Path, fakes: Sequence[Fake], suite: Suite | None = None) -> Path:
    """Write entries below ``root`` (``SUITE-vVERSION/SLUG/``), and give ``root``."""
    chosen = suite or load_suite("digits")
    for fake in fakes:
        folder = root / f"{chosen.name}-v{chosen.version}" / fake.slug
        write_entry(folder, fake, chosen)
        for attack in fake.attacks:
            write_entry(folder / "attacks" / attack.slug, attack, chosen, model=fake)
    return root


def read_entries(root: Path) -> tuple[LoadedEntry, ...]:
    """Entries as they say they are: made up ones have no evidence that could be verified."""
    return tuple(map(read_entry, entry_folders(root)))


def build(entries: Path, out: Path) -> tuple[Board, ...]:
    """The site of entries as they say they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "verified_entries", lambda root, *how: read_entries(root))
        return building.build(entries, out)


def boards_with_runs(entries: Path | None, runs: Path) -> tuple[Board, ...]:
    """Boards of entries as they say they are, with one's own runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "verified_entries", read_entries)
        return serving.boards_with_runs(entries, runs)


def write_entry(folder: Path, fake: Fake, suite: Suite, model: Fake | None = None) -> None:
    """Write one entry's files; an attack on ``model`` if that is given."""
    folder.mkdir(parents=True)
    outcomes = fake_outcomes(suite, fake.strength, fake.seed)
    record = fake_record(suite, outcomes, fake, fingerprint(model or fake))
    files = {
        "record.json": record.model_dump_json(indent=1).encode(),
        "outcomes.json": outcomes.model_dump_json().encode(),
    }
    if fake.pictures:
        files["thumbnails.png"] = fake_pictures(outcomes, fake.seed)
    entry = fake_entry(folder.name, fake, suite, files, model)
    files["entry.json"] = entry.model_dump_json(indent=1).encode()
    if fake.depth is not None:
        verification = fake_verification(fake, sha256(files["entry.json"]))
        files["verification.json"] = verification.model_dump_json(indent=1).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_run(folder: Path, fake: Fake, suite: Suite | None = None, outcomes: bool = True) -> None:
    """Write the folder of a run that was not submitted."""
    chosen = suite or load_suite("digits")
    found = fake_outcomes(chosen, fake.strength, fake.seed)
    folder.mkdir(parents=True)
    record = fake_record(chosen, found, fake, fingerprint(fake))
    (folder / "record.json").write_text(record.model_dump_json(indent=1))
    if outcomes:
        (folder / "outcomes.json").write_text(found.model_dump_json())


def fake_outcomes(suite: Suite, strength: float, seed: int) -> Outcomes:
    """Sources that fall at radii drawn around ``strength`` of the largest."""
    draws = np.random.default_rng(seed)
    n, count = len(suite.sample_ids), len(suite.eps)
    hard = np.random.default_rng(7).normal(0, 0.15, n)  # the same sources are hard for every model
    falls_at = (strength + hard + draws.normal(0, 0.08, n)) * suite.eps[-1]
    places = [next((e for e, eps in enumerate(suite.eps) if eps >= at), None) for at in falls_at]
    labels = [i % 10 for i in range(n)]
    reached = draws.random(n)
    eligible = [bool(draws.random() < 0.95) for _ in range(n)]
    return Outcomes(
        sample_ids=suite.sample_ids,
        labels=tuple(labels),
        target_labels=tuple((label + 1 + i % 9) % 10 for i, label in enumerate(labels)),
        eligible=tuple(eligible),
        eps=suite.eps,
        ignore_target=tuple(
            place if on else None for place, on in zip(places, eligible, strict=True)
        ),
        target=tuple(
            min(place + 1, count - 1) if on and place is not None and reach < 0.5 else None
            for place, on, reach in zip(places, eligible, reached, strict=True)
        ),
    )


def fake_record(suite: Suite, outcomes: Outcomes, fake: Fake, fingerprint: str) -> Record:
    """A real record with these outcomes' scores, as if the whole suite had been run."""
    real = real_record()
    draws = np.random.default_rng(fake.seed + 1)
    n, eligible = len(outcomes.eligible), sum(outcomes.eligible)
    error = float(draws.uniform(4, 14))
    scores = real.scores.model_copy(
        update={
            "sources": n,
            "eligible": eligible,
            "clean_accuracy": share(eligible + 1, n),
            "reconstruction_error": Estimate(value=error, low=error - 0.6, high=error + 0.7, n=n),
            "kl": Estimate(value=25 - error, low=24 - error, high=26 - error, n=n),
            "total_correlation": float(draws.uniform(0.2, 3)),
            "per_eps": tuple(
                real.scores.per_eps[0].model_copy(update={"eps": eps}) for eps in suite.eps
            ),
            **fake.scores,
        }
    )
    model = {"name": fake.slug, "fingerprint": fingerprint}
    count = len(suite.eps)
    attacks = tuple(
        cost.model_copy(update={"tried": (n,) * count, "succeeded": (0,) * count})
        for cost in real.attacks
    )
    update = {
        "official": True,
        "deviations": (),
        "model": real.model.model_copy(update=model),
        "suite": suite,
        "suite_sha256": suite.sha256,
        "scores": scores,
        "flags": fake.flags,
        "attacks": attacks,
        "forwards": 1000 * n + fake.seed,
        "backwards": 900 * n,
    }
    return rescored(real.model_copy(update=update), outcomes.worst).model_copy(update=fake.record)


@cache
def real_record() -> Record:
    """A run that takes a second."""
    return genrobust.bench("vae", "digits", limit=2, eps=[0.05], attacks=["noise"])


def fake_entry(
    slug: str, fake: Fake, suite: Suite, files: dict[str, bytes], model: Fake | None
) -> Entry:
    said: dict[str, Any] = {
        "name": slug.replace("-", " "),
        "authors": (Author(name="Ada Author", affiliation="Some University"),),
        "links": (Link(label="paper", url="https://example.org/paper"),),
        "family": "VAE",
        "licence": "MIT",
        "training_data": "the digits' training split",
        "note": "Made up for a test.",
        **fake.submission,
    }
    return Entry(
        kind="model" if model is None else "attack",
        slug=slug,
        suite=f"{suite.name}-v{suite.version}",
        submission=Submission(**said),
        submitted="2026-10-01",
        model=ZooModel(name="vae", dataset="digits"),
        fingerprint=fingerprint(model or fake),
        files={name: sha256(content) for name, content in files.items()},
    )


def fake_verification(fake: Fake, entry_sha256: str) -> Verification:
    assert fake.depth is not None
    checks = (
        Check(name="hashes", passed=True, detail="all files are those that entry.json names"),
        Check(
            name="scores",
            passed=fake.passed,
            detail="recomputed scores are equal to 1e-6"
            if fake.passed
            else "as_target at eps 0.1 is 0.31, not 0.12",
        ),
    )
    return Verification(
        depth=fake.depth,
        passed=fake.passed,
        checks=checks,
        entry_sha256=entry_sha256,
        genrobust="0.1.0",
        platform="Linux x86_64",
        date="2026-10-02",
        seconds=12.5,
    )


def fake_pictures(outcomes: Outcomes, seed: int) -> bytes:
    """Four rows of tiles: a column for the first eligible source of each class."""
    columns = len({y for y, on in zip(outcomes.labels, outcomes.eligible, strict=True) if on})
    tiles = _digits()[:, : 32 * columns].astype(float)
    noise = np.random.default_rng(seed).normal(0, 20, tiles.shape)
    moved = np.roll(tiles, 32 * 3, axis=1)
    rows = [tiles, tiles + noise, tiles * 0.9 + 8, moved * 0.9 + 8]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(rows).clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def fingerprint(fake: Fake) -> str:
    return sha256(fake.slug.encode())


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def share(count: int, n: int) -> Estimate:
    value = min(count, n) / n
    return Estimate(value=value, low=max(0, value - 0.02), high=min(1, value + 0.02), n=n)


@cache
def _digits() -> np.ndarray[Any, Any]:
    """One image of each class, side by side, (32, 320) in [0, 255]."""
    images = genrobust.load_images("digits", "test")
    first = [int((images.labels == c).nonzero()[0, 0]) for c in range(10)]
    tiles = images.take(first)[:, 0].mul(255).numpy()
    return np.concatenate(list(tiles), axis=1)
