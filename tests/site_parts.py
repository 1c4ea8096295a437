"""What several tests of the leaderboard's site start from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from leaderboard_entries import (
    FLAG,
    Fake,
    fake_record,
    fingerprint,
    read_entries,
    sha256,
    write_entries,
)

from genrobust.board.board import Board, Contender, contender, make_board
from genrobust.evidence.entry import Outcomes
from genrobust.suites import Suite, load_suite

DIGITS = load_suite("digits")
N, E = len(DIGITS.sample_ids), len(DIGITS.eps)


FAKES = (
    Fake("strong", 0.7, 1, depth="re-attack"),
    Fake("nearly-as-strong", 0.69, 2),
    Fake("weak", 0.2, 3, depth=None),
    Fake("flagged", 0.9, 4, flags=(FLAG,)),
    Fake("failed", 0.95, 5, passed=False),
    Fake(
        "attacked",
        0.6,
        6,
        attacks=(Fake("search", 0.4, 7), Fake("unproven", 0.1, 8, depth="schema")),
    ),
)


def board_of(fakes: Sequence[Fake], root: Path, suite: Suite | None = None) -> Board:
    entries = read_entries(write_entries(root, fakes, suite))
    return make_board([contender(entry) for entry in entries])


def made(
    places: Sequence[int | None], name: str = "model", eps: tuple[float, ...] = (0.1, 0.3)
) -> Contender:
    """A run whose sources first fall at these positions in eps; all are eligible."""
    n = len(places)
    suite = DIGITS.model_copy(update={"eps": eps}).limited(n)
    outcomes = Outcomes(
        sample_ids=suite.sample_ids,
        labels=(0,) * n,
        target_labels=(1,) * n,
        eligible=(True,) * n,
        eps=eps,
        ignore_target=tuple(places),
        target=(None,) * n,
    )
    record = fake_record(suite, outcomes, Fake(name), fingerprint(Fake(name)))
    return Contender(name, name, record, outcomes, None)


def entry_folder(root: Path) -> Path:
    return root / "digits-v2" / "vae"


def edit(name: str, change: Callable[[Any], Any], rehash: bool = True) -> Callable[[Path], None]:
    """Changes a JSON file of the entry, and its hash in entry.json: only the change shows."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        text = json.dumps(content)
        (folder / name).write_text(text)
        if rehash and name != "entry.json":
            edit("entry.json", lambda e: e["files"].update({name: sha256(text.encode())}))(folder)

    return apply


def set_at(*path: Any) -> Callable[[Any], None]:
    *outer, last, value = path

    def change(content: Any) -> None:
        for key in outer:
            content = content[key]
        content[last] = value

    return change
