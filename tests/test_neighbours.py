"""Neighbours of the attacks on a board that once got through: other ways to the same end.

A test for each kind: who leads without being robust, flags left out, scores without a bound,
verifications by hand, what is shown, pull requests, hangs.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evidence_runs import BOARD, Forger, reason, registered, sha256, verified
from leaderboard_entries import Fake, read_entries, write_entries
from pull_request import collect
from pydantic import ValidationError
from test_not_fooled import (
    IMAGES,
    SOURCES,
    SUITE,
    alike,
    looked_at,
    made,
    standings,
    vae,
)
from test_portable import X, call, full, node, program, small
from torch import Tensor

from genrobust.board.board import contender, make_board
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.evidence.checks import RejectionError
from genrobust.evidence.entry import Author, Link, Submission, Verification
from genrobust.models.model import GenerativeModel
from genrobust.site.build import write_files
from genrobust.site.serve import _server
from genrobust.verify.claims import require_near
from genrobust.verify.consistency import check_said
from genrobust.verify.entries import verified_entries
from genrobust.verify.generality import require_alone, require_general
from genrobust.verify.replay import Replay
from genrobust.verify.subject import Subject

# ---- 1. Models that are not robust ----


def key(x: Tensor) -> Tensor:
    """What is left of an image under any small perturbation: its 8x8 means, black or white."""
    return (torch.nn.functional.avg_pool2d(x, 4) > 0.5).flatten(1)


def hashed(blur: bool) -> GenerativeModel:
    """Looks a source up by the hash of an image, and is honest about what it does not know."""
    honest, keys = vae(), key(SOURCES).float()

    def deploy(x: Tensor) -> Tensor:
        apart = (key(x).float()[:, None] - keys).abs().sum(2)
        known = (apart.amin(1) <= 4).view(-1, 1, 1, 1)
        found = SOURCES[apart.argmin(1)]
        if blur:  # an error like that of a model
            found = 0.9 * found + 0.02
        return torch.where(known, found, honest.reconstruct(x))

    return replace(honest, deploy=deploy)


@pytest.mark.parametrize("blur", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_table_of_hashed_sources_is_refused(blur: bool) -> None:
    with pytest.raises(RejectionError, match="it knows these"):
        require_general(hashed(blur), IMAGES, SUITE, seed=0)


class Sometimes:
    """An honest model that looks a source up in some calls: which, only its count of calls says."""

    def __init__(self, when: Callable[[int, Tensor], bool]) -> None:
        self.when, self.calls, self.table, self.honest = when, 0, hashed(False), vae()

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (self.table if self.when(self.calls, x) else self.honest).reconstruct(x)


@pytest.mark.parametrize(
    "when",
    [
        pytest.param(lambda calls, x: calls == 1, id="first call"),
        pytest.param(lambda calls, x: len(x) > 8, id="large batches", marks=pytest.mark.slow),
        pytest.param(
            lambda calls, x: calls > 2 and len(x) % 2 == 1, id="odd ones", marks=pytest.mark.slow
        ),
        pytest.param(
            lambda calls, x: bool(x[0].sum() > x[-1].sum()), id="order", marks=pytest.mark.slow
        ),
    ],
)
def test_a_table_that_is_not_always_used_is_refused(when: Callable[[int, Tensor], bool]) -> None:
    model = replace(vae(), deploy=Sometimes(when))
    scored = torch.cat([model.reconstruct(part) for part in SOURCES.split(SUITE.chunk_size)])
    with pytest.raises(RejectionError, match=r"depends on how many images are in a batch"):
        require_alone(model, SOURCES, scored, SUITE, seed=3)


def test_what_differs_only_beside_the_reconstruction_is_one_model(tmp_path: Path) -> None:
    """A bias in the log-variances or a scale of the code changes the KL, and no picture."""
    fakes = [
        Fake("honest", 0.5, 1, scores=alike()),
        Fake("other-variances", 0.5, 1, scores=alike(kl=16.5)),
        Fake("scaled-code", 0.5, 1, scores=alike(kl=20.0)),
        Fake("noise-on-the-weights", 0.5, 1, scores=alike(reconstruction_error=6.01)),
        Fake("another", 0.5, 2, scores=alike()),
    ]
    found = standings(tmp_path, fakes)
    assert sorted(found.values()) == ["ranked"] * 2 + ["repeated"] * 3
    assert found["another"] == "ranked"


# ---- 2. Flags ----


@pytest.mark.parametrize(
    "where",
    [
        {"packages": {"torch": "1.13.0"}},
        {"packages": {}},
        {"platform": "Plan 9"},
        {"device": "cuda"},
        {"genrobust": "0.0.1"},
    ],
    ids=lambda where: next(iter(where)),
)
def test_signs_are_required_whatever_machine_is_named(
    forger: Forger,
    where: dict[str, Any],
) -> None:
    forger.record(provenance=forger.evidence.record.provenance.model_copy(update=where))
    forger.record(flags=()).without("probe.stopped")
    assert "has no 'probe.stopped" in reason(verified(forger.written(), "schema"))


@pytest.mark.parametrize("empty", [False, True])
def test_signs_of_another_form_are_none(forger: Forger, empty: bool) -> None:
    """Kept by name, and of no source: or of every number but one."""
    given = forger.evidence.tensors["gradient_cosine"]
    forger.tensors(gradient_cosine=given[:0] if empty else given.double())
    assert "gradient_cosine" in reason(verified(forger.written(), "schema"))


# ---- 3. Scores ----

NEARLY: dict[str, dict[str, float]] = {
    "narrow and wrong": {"value": 0.5, "low": 0.49, "high": 0.51},
    "ends that are no numbers": {"low": float("nan"), "high": float("nan")},
    "a value that is none": {"value": float("nan")},
    "ends without end": {"low": float("-inf"), "high": float("inf")},
    "ends the other way round": {"low": 1e3, "high": -1e3},
    "of nobody": {"n": 0},
}


@pytest.mark.parametrize("what", NEARLY)
def test_an_interval_that_is_not_the_models_is_refused_elsewhere(
    replayed: Replay,
    what: str,
) -> None:
    found = replayed.scores
    true = found.reconstruction_error
    forged = found.model_copy(update={"reconstruction_error": true.model_copy(update=NEARLY[what])})
    with pytest.raises(RejectionError, match="reconstruction_error is claimed"):
        require_near(forged, found)


@pytest.mark.parametrize("end", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_ends_that_are_no_numbers_are_not_read(forger: Forger, end: str) -> None:
    text = forger.evidence.record.model_dump_json()
    high = f'"high":{forger.evidence.record.scores.reconstruction_error.high}'
    assert high in text
    forger._with(record_bytes=text.replace(high, f'"high":{end}').encode())
    assert "NaN or infinite" in reason(verified(forger.written(), "schema"))


# ---- 4. Verifications by hand ----


@pytest.fixture
def entry(tiny_entry: Path, tmp_path: Path) -> Path:
    return Forger(tiny_entry, tmp_path / "entries").folder


def standing_of(entry: Path) -> str:
    with registered():
        (row,) = make_board([contender(one) for one in verified_entries(entry.parents[1])]).rows
    return row.standing


def test_the_verification_of_another_entry_is_none(entry: Path, tmp_path: Path) -> None:
    other = Forger(entry, tmp_path / "other")
    other.written(slug="other-vae")
    badge = json.loads((entry / "verification.json").read_text())
    badge["entry_sha256"] = sha256((other.folder / "entry.json").read_bytes())
    (entry / "verification.json").write_text(json.dumps({**badge, "depth": "re-attack"}))
    assert standing_of(entry) == "not replayed"


def test_a_verification_of_a_day_to_come_is_none(entry: Path) -> None:
    assert standing_of(entry) == "ranked"
    badge = json.loads((entry / "verification.json").read_text())
    (entry / "verification.json").write_text(json.dumps({**badge, "date": "2131-01-01"}))
    with pytest.warns(GenrobustWarning, match="2131-01-01 is a day to come"):
        assert standing_of(entry) == "not replayed"


@pytest.mark.parametrize("content", ["", "[" * 100_000, "null", '{"passed": true}'])
def test_a_verification_that_is_none_gives_no_rank(entry: Path, content: str) -> None:
    (entry / "verification.json").write_text(content)
    with pytest.warns(GenrobustWarning, match="counts as not verified"):
        assert standing_of(entry) == "not replayed"


# ---- 5. What is shown ----

SAID: dict[str, Any] = {
    "name": "A model",
    "authors": (Author(name="Ada"),),
    "licence": "MIT",
    "training_data": "digits",
}
UNSEEN = ["a\x1b[2J", "a\u202egpj.exe", "Plain\u200b VAE", "a\u2028b", "a\x00b", "\u2066a"]


@pytest.mark.parametrize("words", UNSEEN)
def test_words_that_are_not_what_they_look_like_are_refused(words: str) -> None:
    for field in ("name", "licence", "training_data", "family", "note"):
        with pytest.raises(ValidationError, match="not seen"):
            Submission(**{**SAID, field: words})
    for make in (
        lambda: Author(name=words),
        lambda: Author(name="Ada", affiliation=words),
        lambda: Link(label=words, url="https://example.org"),
    ):
        with pytest.raises(ValidationError, match="not seen"):
            make()


def test_only_a_note_has_several_lines() -> None:
    assert Submission(**SAID, note="one\n\ntwo").note == "one\n\ntwo"
    for words in ("one\ntwo", " ", "\u3000"):
        with pytest.raises(ValidationError):
            Submission(**{**SAID, "name": words})


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com@example.org/x",
        "https://github.com:x@example.org",
        "https://",
        "https:///x",
        "https:// example.org",
        "https://example.org/\u202egnp",
        "https://g\u0456thub.com/x",
        "https://example.org/\njavascript:alert(1)",
        "https://example.org\\@github.com",
    ],
)
def test_a_link_goes_where_it_seems_to(url: str) -> None:
    with pytest.raises(ValidationError):
        Link(label="paper", url=url)
    assert Link(label="paper", url="https://example.org:8443/a?b=c#d").url


def test_names_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    names = {
        "honest": "Plain VAE 10",
        "cyrillic": "Pl\u0430in VAE 10",
        "letters": "P1ain VAE lO",
        "punctuation": "Plain-VAE 10.",
        "wide": "\uff30lain VAE 10",
        "greek": "β-VAE",
        "latin": "B-VAE",
        "other": "Another",
        "field": "β-TCVAE",
    }
    fakes = [Fake(s, 0.4, n, submission={"name": names[s]}) for n, s in enumerate(names)]
    rows = make_board([contender(one) for one in read_entries(write_entries(tmp_path, fakes))]).rows
    shown = {row.contender.id: row.contender.name for row in rows}
    assert (shown.pop("other"), shown.pop("field")) == ("Another", "β-TCVAE")
    assert shown == {slug: f"{names[slug]} ({slug})" for slug in shown}


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def animated(png: bytes) -> bytes:
    """The picture first, and another one after it."""
    frame = struct.pack(">IIIIIHHBB", 0, 8, 8, 0, 0, 1, 1, 0, 0)
    inside = chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(b"fcTL", frame)
    return png[:33] + inside + png[33:]


def headed_twice(png: bytes) -> bytes:
    """Another size first, and then the one that decoders take."""
    head = png[16:33]
    first = chunk(b"IHDR", struct.pack(">II", 8, 8) + head[8:13])
    return png[:8] + first + png[8:]


def of_another_gamma(png: bytes) -> bytes:
    return png[:33] + chunk(b"gAMA", struct.pack(">I", 1)) + png[33:]


def without_pixels(png: bytes) -> bytes:
    return png[:33] + chunk(b"IEND", b"")


@pytest.mark.parametrize("change", [animated, headed_twice, of_another_gamma, without_pixels])
def test_a_picture_is_shown_as_it_was_compared(
    replayed: Replay,
    tiny_entry: Path,
    change: Callable[[bytes], bytes],
) -> None:
    content = (tiny_entry / "thumbnails.png").read_bytes()
    with pytest.raises(RejectionError, match=r"thumbnails\.png"):
        looked_at(replayed, tiny_entry, None, pictures=change(content))


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("processor", "Xeon\u202e"),
        ("device", "cpu\n"),
        ("python", "3" * 10_000),
        ("platform", "a\u200bb"),
    ],
)
def test_where_a_run_was_made_is_a_word_or_two(
    replayed: Replay,
    field: str,
    said: str,
) -> None:
    forged = replace(replayed.evidence, record=made(**{field: said})(replayed.evidence.record))
    with pytest.raises(RejectionError, match="not a plain word"):
        check_said(Subject(Path("evidence.zip"), forged))


# ---- 6. Pull requests ----


@pytest.mark.parametrize(
    "place",
    [
        "digits-v1/Old-vae/entry.json",
        "digits-v1/\u043eld-vae/entry.json",
        "digits-v1/old-vae\u200b/entry.json",
        "digits-v1/old-vae\u0301/entry.json",
        "digits-v1/old-vae/Entry.json",
        "digits-v1/old-vae/entry.json\u2029",
        "digits-v1/old-vae/.gitattributes",
        "digits-v1/old-vae/attacks/a/attacks/b/entry.json",
        "Digits-v1/old-vae/entry.json",
        "digits-v1/entry.json",
    ],
)
def test_a_place_that_looks_like_an_entrys_is_refused_in_plain_letters(
    place: str, tmp_path: Path
) -> None:
    base, head = tmp_path / "base", tmp_path / "head"
    for side in (base, head):
        (side / "digits-v1" / "old-vae").mkdir(parents=True)
        (side / "digits-v1" / "old-vae" / "entry.json").write_text("old")
    (head / place).parent.mkdir(parents=True, exist_ok=True)
    (head / place).write_text("new")
    changes = collect(base, head, tmp_path / "data")
    assert changes.entries == ()
    (problem,) = changes.problems
    assert "is no file of an entry" in problem
    assert problem.isascii()
    assert problem.isprintable()


def test_a_renamed_entry_takes_nobodys_place_unsaid(tmp_path: Path) -> None:
    base, head = tmp_path / "base", tmp_path / "head"
    for root, slug in ((base, "old-vae"), (head, "0ld-vae")):
        (root / "digits-v1" / slug).mkdir(parents=True)
        (root / "digits-v1" / slug / "entry.json").write_text('{"fingerprint": "' + "a" * 64 + '"}')
    changes = collect(base, head, tmp_path / "data")
    assert changes.problems == ("'digits-v1/old-vae/entry.json' is removed",)
    assert changes.notes == (f"digits-v1/0ld-vae is new, of model {'a' * 12}",)


# ---- 7. Hangs, memory, and what stops a build ----


def an_empty_file(board: Path) -> None:
    (board / "empty").mkdir()
    (board / "empty" / "entry.json").touch()


def a_folder_as_file(board: Path) -> None:
    (board / "folder" / "entry.json").mkdir(parents=True)


def a_file_as_folder(board: Path) -> None:
    (board / "file").touch()
    (board.parent / "readme.txt").touch()


def a_link(board: Path) -> None:
    (board / "linked").symlink_to(board / "plain-vae")


def a_link_to_nothing(board: Path) -> None:
    (board / "nothing").symlink_to(board / "nowhere")


def a_link_to_itself(board: Path) -> None:
    (board / "plain-vae" / "attacks").mkdir()
    (board / "plain-vae" / "attacks" / "loop").symlink_to(board)


def deep_json(board: Path) -> None:
    (board / "deep").mkdir()
    (board / "deep" / "entry.json").write_text('{"a":' * 50_000)


def an_attack_that_is_a_file(board: Path) -> None:
    (board / "plain-vae" / "attacks").mkdir()
    (board / "plain-vae" / "attacks" / "search").touch()


@pytest.mark.parametrize(
    "spoil",
    [
        *(an_empty_file, a_folder_as_file, a_file_as_folder, a_link, a_link_to_nothing),
        *(a_link_to_itself, deep_json, an_attack_that_is_a_file),
    ],
)
@pytest.mark.filterwarnings("ignore::genrobust.errors.GenrobustWarning")
def test_what_is_no_entry_stops_no_build(entry: Path, spoil: Callable[[Path], None]) -> None:
    spoil(entry.parent)
    assert standing_of(entry) == "ranked"


def convolved(step: int, transposed: bool) -> Any:
    """Of the image and the kernel before it: padding 0, dilation 1, one group."""
    how = [[step, step], [0, 0], [1, 1], transposed, [0, 0], 1]
    return call("aten.convolution.default", node(1), node(2), None, *how)


GRAPHS: dict[str, list[Any]] = {
    "a convolution with a large kernel": [
        *full(1, 1, 1 << 12, 1 << 12)[:2],
        call("aten.full.default", [1, 1, 1025, 1025], 0.0),
        convolved(1, False),
    ],
    "a transposed one with a large step": [
        *full(1, 1, 1 << 10, 1 << 10)[:2],
        call("aten.full.default", [1, 1, 3, 3], 0.0),
        convolved(1024, True),
    ],
    "sums as one goes, many times": [
        *full(1 << 26)[:2],
        *[call("aten.cumsum.default", node(1), 0)] * 200,
    ],
    "an expansion that is summed up": [
        X,
        call("aten.expand.default", node(0), [1 << 40, -1, 1, 2, 2]),
        call("aten.sum.dim_IntList", node(1), [0]),
    ],
    "an outer comparison": [
        *full(1 << 20, 1)[:2],
        call("aten.full.default", [1, 1 << 20], 0.0),
        call("aten.eq.Tensor", node(1), node(2)),
    ],
    "a mirror far beyond the edge": [
        *full(1, 1, 1 << 14, 1 << 14)[:2],
        call("aten.reflection_pad2d.default", node(1), [16000] * 4),
    ],
    "the largest of many, many times": [
        *full(1 << 26)[:2],
        *[call("aten.topk.default", node(1), 1 << 25)] * 60,
    ],
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_other_bombs_are_refused_before_they_take_memory_or_time(kind: str) -> None:
    with pytest.raises(GenrobustError, match=r"bytes|operations"):
        small(program(encode=GRAPHS[kind]))


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    site = tmp_path_factory.mktemp("served") / "site"
    write_files(site, [("index.html", b"<p>mine</p>")])
    with _server(site, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def asked(port: int, *hosts: str, target: str = "/") -> str:
    """The first line of what comes back, and whether the page is in it."""
    lines = [f"GET {target} HTTP/1.1", *(f"Host: {host}" for host in hosts), "Connection: close"]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        line.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        got = b"".join(iter(lambda: line.recv(4096), b""))
    found = re.match(rb"HTTP/1\.\d (\d+)", got)
    assert found is not None
    assert (b"mine" in got) == (found[1] == b"200")
    return found[1].decode()


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}"),
        *("[::ffff:127.0.0.1]:{port}", "[::1]", "0.0.0.0:{port}", "evil@localhost", "localhost."),
        *("evil.example:127.0.0.1", ":{port}", "localhost:80:evil.example", ""),
    ],
)
def test_a_server_answers_to_no_other_name(port: int, host: str) -> None:
    assert asked(port, host.format(port=port)) == "421"
    assert asked(port, f"localhost:{port}") == asked(port, "127.0.0.1") == "200"


def test_a_verification_is_read_as_it_is_written(entry: Path) -> None:
    """What these tests forge is refused for what is forged."""
    badge = json.loads((entry / "verification.json").read_text())
    assert Verification.model_validate(badge).passed
    assert entry.parent.name == BOARD
