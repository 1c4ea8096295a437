"""What would be tried next on a board whose known holes are closed: each is refused or told.

A test for each way; the kinds are those of ``test_neighbours.py``.
"""

from __future__ import annotations

import json
import shutil
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import badges
import numpy as np
import pull_request
import pytest
import torch
from evidence_runs import BOARD, SAID, Forger, reason, registered, sha256, verified
from PIL import Image
from pull_request import collect
from pydantic import ValidationError
from test_neighbours import asked
from test_not_fooled import IMAGES, LIMIT, SOURCES, SUITE, looked_at, made, vae
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

import genrobust
from genrobust.board.board import contender, make_board
from genrobust.errors import GenrobustWarning
from genrobust.evidence.checks import RejectionError
from genrobust.evidence.entry import BundledModel, ExternalModel, Submission, ZooModel
from genrobust.models.checks.fidelity import Fidelity
from genrobust.models.model import GenerativeModel
from genrobust.records.record import Flag
from genrobust.site.build import write_files
from genrobust.site.pages import render
from genrobust.site.serve import _server
from genrobust.verify.capacity import measured_rate, rate_of
from genrobust.verify.consistency import check_said, flags_of
from genrobust.verify.entries import verified_entries
from genrobust.verify.generality import require_general
from genrobust.verify.replay import Replay
from genrobust.verify.subject import Subject

# ---- 1. Another model where it is attacked ----


def coarse(x: Tensor) -> Tensor:
    """What noise of single pixels hardly moves, and what attacks do."""
    return avg_pool2d(x, 8).flatten(1)


Near = Callable[[GenerativeModel, Tensor], Tensor]


def switched(near: Near) -> GenerativeModel:
    """Honest where ``near`` says so, and the image itself elsewhere."""
    honest = vae()

    def deploy(x: Tensor) -> Tensor:
        return torch.where(near(honest, x).view(-1, 1, 1, 1), honest.reconstruct(x), x)

    return replace(honest, deploy=deploy)


def as_a_whole(honest: GenerativeModel, x: Tensor) -> Tensor:
    """Is it bright as a source is, in all parts? Other images are not, and stay as they are."""
    apart = (coarse(x)[:, None] - coarse(SOURCES)).abs().amax(2).amin(1)
    return (apart < 0.045) | (apart > 0.15)


def unless_it_is_blurred(honest: GenerativeModel, x: Tensor) -> Tensor:
    """As a source is by a shift between pixels, and by no noise."""
    squares = (x.flatten(1)[:, None] - SOURCES.flatten(1)).square().sum(2)

    def edges(images: Tensor) -> Tensor:
        return images.diff(dim=2).square().sum((1, 2, 3)) + images.diff(dim=3).square().sum(
            (1, 2, 3)
        )

    blurred = edges(x) < 0.98 * edges(SOURCES)[squares.argmin(1)]
    return ~blurred | (squares.amin(1) > 20)


def where_it_errs_as_usual(honest: GenerativeModel, x: Tensor) -> Tensor:
    """What is not reconstructed well, as where an attack has led, is given back as it came."""

    def errors(images: Tensor) -> Tensor:
        return (honest.reconstruct(images) - images).square().sum((1, 2, 3))

    return errors(x) < 1.6 * errors(SOURCES).mean()


@pytest.mark.parametrize("near", [as_a_whole, unless_it_is_blurred, where_it_errs_as_usual])
def test_a_switch_that_noise_of_single_pixels_does_not_turn_is_told(
    near: Near,
) -> None:
    with pytest.raises(RejectionError, match="another model where images are none of them"):
        require_general(switched(near), IMAGES, SUITE.limited(30), seed=0)


class Fallback(nn.Module):
    """A bottleneck, unless it errs more than on any image: then a code of the image as it is.

    A pattern on what it gives back errs as much as an honest model does.
    """

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.honest = vae()
        self.most = 1.1 * float(self.errors(IMAGES.take(range(len(IMAGES)))).max())
        self.pattern = 0.16 * torch.rand(1024, generator=torch.Generator().manual_seed(1))

    def errors(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(x.requires_grad):
            return (self.honest.reconstruct(x) - x).square().sum((1, 2, 3))

    def encode(self, x: Tensor) -> Tensor:
        bad = (self.errors(x) > self.most).float()[:, None]
        return torch.cat([self.honest.encode(x).mode(), bad * x.flatten(1), bad], 1)

    def decode(self, z: Tensor) -> Tensor:
        honest, bad = self.honest.decode(z[:, :10]), z[:, -1:].view(-1, 1, 1, 1) > 0.5
        return torch.where(bad, (z[:, 10:-1] + self.pattern).clamp(0, 1).view_as(honest), honest)


@pytest.mark.slow
def test_a_code_that_opens_where_attacks_lead_is_no_bottleneck() -> None:
    model, suite = genrobust.wrap(Fallback()), SUITE.model_copy(update={"eps": (0.15,)})
    assert rate_of(model, SOURCES, seed=0) < LIMIT / 2
    require_general(model, IMAGES, suite, seed=0)
    assert measured_rate(model, IMAGES, suite, seed=0) > 10 * LIMIT
    assert measured_rate(vae(), IMAGES, suite, seed=0) < LIMIT


# ---- 2. Flags ----


def raised(forger: Forger) -> Flag:
    """The flag of gradients that vanish, which the evidence now raises."""
    forger.tensors(gradient_norm=torch.zeros(24))
    record = forger.evidence.record
    (flag,) = flags_of(record.suite, forger.evidence.outcome)
    assert flag.name == "gradients vanish"
    return flag


FLAGS: dict[str, Callable[[Flag], tuple[Flag, ...]]] = {
    "of a smaller share": lambda flag: (flag.model_copy(update={"value": flag.limit}),),
    "of a wider limit": lambda flag: (flag.model_copy(update={"limit": 1.0}),),
    "by a kinder name": lambda flag: (flag.model_copy(update={"name": "few eligible sources"}),),
    "in other words": lambda flag: (flag.model_copy(update={"evidence": "a false alarm"}),),
    "twice": lambda flag: (flag, flag),
    "beside one that is not raised": lambda flag: (
        flag,
        flag.model_copy(update={"name": "few eligible sources"}),
    ),
}


@pytest.mark.parametrize("how", FLAGS)
def test_a_flag_is_as_it_was_raised(forger: Forger, how: str) -> None:
    flag = raised(forger)
    assert verified(forger.record(flags=(flag,)).written(), "schema").passed
    forger.record(flags=FLAGS[how](flag))
    assert "flags: record.json has the flags" in reason(verified(forger.written(), "schema"))


# ---- 3. and 5. Words in genrobust's own voice ----

SPOKEN = "curl https://example.org | sh"


def of_a_flag(forger: Forger) -> None:
    """Words count within a version: so a run of another one says what it likes."""
    flag = raised(forger).model_copy(update={"evidence": SPOKEN})
    where = forger.evidence.record.provenance.model_copy(update={"genrobust": "0.0.1"})
    forger.record(flags=(flag,), provenance=where).shards()


def of_a_misreading(forger: Forger) -> None:
    forger.record(fidelity=Fidelity("differs", 0.1, f"run {SPOKEN}", f"type {SPOKEN}"))


def of_a_card(forger: Forger) -> None:
    model = forger.evidence.record.model
    forger.record(model=model.model_copy(update={"card": {"to use it": SPOKEN}}))


def of_the_latents(forger: Forger) -> None:
    model = forger.evidence.record.model
    forger.record(model=model.model_copy(update={"latents": SPOKEN})).shards()


def of_a_spec(forger: Forger) -> None:
    model = forger.evidence.record.model
    spec = {**model.spec, "defence": SPOKEN}
    forger.record(model=model.model_copy(update={"spec": spec})).shards()


@pytest.mark.parametrize("said", [of_a_flag, of_a_misreading, of_a_card, of_a_spec, of_the_latents])
def test_pages_speak_in_no_submitters_words(forger: Forger, said: Callable[[Forger], None]) -> None:
    said(forger)
    (forger.folder / "verification.json").unlink()
    entries = forger.written().parents[1]
    with registered():
        (found,) = verified_entries(entries)
        pages = dict(render([make_board([contender(found)])]))
    shown = [content for name, content in pages.items() if not name.endswith("/record.json")]
    assert any(b"Plain VAE" in content for content in shown)
    assert not any(b"example.org" in content for content in shown)


# ---- 4. Verifications by hand ----

BY_HAND: dict[str, tuple[str, ...]] = {
    "a rival's": ("old-vae/verification.json",),
    "of an attack": ("old-vae/attacks/a/entry.json", "old-vae/attacks/a/verification.json"),
    "of a new entry": ("new-vae/entry.json", "new-vae/verification.json"),
    "of a board": ("verification.json",),
    "by a name that some systems take for it": ("old-vae/Verification.JSON",),
    "beside it": ("old-vae/verification.json.bak",),
}


@pytest.mark.parametrize("what", BY_HAND)
def test_no_verification_by_hand_comes_with_a_pull_request(what: str, tmp_path: Path) -> None:
    base, head = tmp_path / "base" / "digits-v1", tmp_path / "head" / "digits-v1"
    for side in (base, head):
        (side / "old-vae").mkdir(parents=True)
        for name in ("entry.json", "verification.json"):
            (side / "old-vae" / name).write_text("{}")
    for place in BY_HAND[what]:
        (head / place).parent.mkdir(parents=True, exist_ok=True)
        (head / place).write_text('{"passed": false}')
    changes = collect(base.parent, head.parent, tmp_path / "data")
    (problem,) = changes.problems
    assert "leave it out" in problem or "is no file of an entry" in problem
    taken = [path.read_text() for path in (tmp_path / "data").rglob("[vV]erification*")]
    assert set(taken) <= {"{}"}  # that of the model that an attack is on


def test_a_rivals_verification_is_not_taken_away(tmp_path: Path) -> None:
    for side in ("base", "head"):
        (tmp_path / side / "digits-v1" / "old-vae").mkdir(parents=True)
        (tmp_path / side / "digits-v1" / "old-vae" / "entry.json").write_text("{}")
    (tmp_path / "base" / "digits-v1" / "old-vae" / "verification.json").write_text("{}")
    changes = collect(tmp_path / "base", tmp_path / "head", tmp_path / "data")
    assert changes.problems == ("'digits-v1/old-vae/verification.json' is removed",)


def forged_scores(attack: Forger) -> None:
    attack.scores(clean_accuracy=attack.evidence.record.scores.clean_accuracy.model_copy(
        update={"value": 0.0, "low": 0.0}
    ))  # fmt: skip


def all_fell(attack: Forger) -> None:
    """At the smallest radius, by inputs that are the sources themselves."""
    eligible = attack.evidence.tensors["eligible"]
    radius = attack.evidence.tensors["ignore.radius"]
    attack.tensors(ignore__radius=torch.where(eligible, 0, radius).to(radius.dtype))


@pytest.mark.parametrize("forge", [forged_scores, all_fell])
def test_a_forged_attack_with_a_badge_lowers_nobody(
    tiny_entry: Path, tmp_path: Path, forge: Callable[[Forger], None]
) -> None:
    rival = Forger(tiny_entry, tmp_path / "entries").folder
    attack = Forger(tiny_entry, tmp_path / "made")
    forge(attack)
    attack.folder = attack.folder.rename(attack.folder.with_name("search"))
    attack.written(kind="attack", slug="search", submission=SAID)
    badge = json.loads((attack.folder / "verification.json").read_text())
    badge["entry_sha256"] = sha256((attack.folder / "entry.json").read_bytes())
    (attack.folder / "verification.json").write_text(json.dumps(badge))
    (rival / "attacks").mkdir()
    attack.folder.rename(rival / "attacks" / "search")
    with registered():
        with pytest.warns(GenrobustWarning, match="search' is left out"):
            (found,) = verified_entries(tmp_path / "entries")
        (row,) = make_board([contender(found)]).rows
    assert row.standing == "ranked"
    assert row.lowerings == ()
    assert row.best == row.contender.record


def test_an_attack_and_the_model_that_it_is_on_are_verified_together(
    tiny_entry: Path, tmp_path: Path
) -> None:
    """In one push; what is no entry, as a folder by its name, stops the others of none."""
    entries, out = tmp_path / "entries", tmp_path / "out"
    model = entries / BOARD / "plain-vae"
    for folder in (model, model / "attacks" / "search"):
        shutil.copytree(tiny_entry, folder)
        (folder / "verification.json").unlink()
    (entries / BOARD / "folder" / "entry.json").mkdir(parents=True)
    (model / "attacks" / "search" / "verification.json").write_text("[" * 100_000)
    assert list(badges.unverified(entries)) == [model / "attacks" / "search", model]

    def verify(folder: Path) -> None:
        (folder / "verification.json").write_text("{}")

    def run(command: Any, seconds: float) -> tuple[bool, str]:
        verify(Path(command[5]))
        return True, ""

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pull_request, "run_command", run)
        words = ["verify", "--entries", str(entries), "--out", str(out)]
        assert badges.main(words) == 0
    assert len([*out.rglob("verification.json")]) == 2


# ---- 5. What is shown ----


def _pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray(Image.open(BytesIO(png)).convert("L"))


def _saved(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def faded(png: bytes) -> bytes:
    """The same pixels, most of which a browser does not show."""
    grey = _pixels(png)
    return _saved(Image.fromarray(np.stack([grey, grey // 3], -1), "LA"))


def cut_out(png: bytes) -> bytes:
    grey = _pixels(png)
    seen = np.where(np.indices(grey.shape).sum(0) % 2 == 0, 255, 0).astype(np.uint8)
    return _saved(Image.fromarray(np.stack([grey, grey, grey, seen], -1), "RGBA"))


def of_16_bits(png: bytes) -> bytes:
    return _saved(Image.fromarray(_pixels(png).astype(np.uint16) * 257))


@pytest.mark.parametrize("change", [faded, cut_out, of_16_bits])
@pytest.mark.parametrize("name", ["thumbnails", "traversals"])
def test_a_picture_is_opaque(
    replayed: Replay, tiny_entry: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    content = change((tiny_entry / f"{name}.png").read_bytes())
    field = "pictures" if name == "thumbnails" else name
    with pytest.raises(RejectionError, match=f"{name}.png has pixels of"):
        looked_at(replayed, tiny_entry, None, **{field: content})


@pytest.mark.parametrize(
    "words",
    [
        "\u3164",
        "Plain VAE\u115f",
        "Plain\u2800VAE",
        "Plain VAE\ufe0f",
        "a\U000e0101b",
        "a\u034fb",
        "e" + "\u0301" * 12,
        "VAE" + "\u0338\u20e5" * 6,
    ],
)
def test_words_that_no_font_draws_are_refused(words: str) -> None:
    said = SAID.model_dump()
    for field in ("name", "licence", "training_data", "note", "family"):
        with pytest.raises(ValidationError, match=r"not seen|marks on one letter"):
            Submission(**{**said, field: words})


@pytest.mark.parametrize(
    "name", ["Модель", "変分オートエンコーダ", "Nguyễn", "मॉडल", "نموذج", "β-VAE"]
)
def test_words_of_any_language_are_seen(name: str) -> None:
    assert Submission(**{**SAID.model_dump(), "name": name, "note": name}).name == name


@pytest.mark.parametrize("words", ["a\x1b[2J.py:build", "a\u202epy.exe:build", "a.py:b\nrm -r ."])
def test_a_command_to_copy_has_nothing_that_is_not_seen(words: str) -> None:
    where = {"source": "https://example.org/weights", "weights_sha256": "0" * 64}
    for make in (
        lambda: ExternalModel(reference=words, **where),
        lambda: ZooModel(name=words, dataset="digits"),
        lambda: ZooModel(name="vae", dataset=words),
        lambda: BundledModel(format="safetensors", architecture=words),
    ):
        with pytest.raises(ValidationError, match=r"not seen|one line"):
            make()


def test_a_run_names_no_more_packages_than_there_are(replayed: Replay) -> None:
    """A page lists them: of a million it would be a hundred megabytes."""
    many = made(packages={f"package-{n}": "1" for n in range(1000)})
    forged = replace(replayed.evidence, record=many(replayed.evidence.record))
    with pytest.raises(RejectionError, match="names 1000 packages"):
        check_said(Subject(Path("evidence.zip"), forged))


# ---- 6. Pull requests ----


def test_a_model_that_is_there_already_is_told(tmp_path: Path) -> None:
    """Of one model the lower entry is ranked: a copy could take its first submitter's place."""

    def put(side: str, entry: str, model: str) -> None:
        (tmp_path / side / entry).mkdir(parents=True, exist_ok=True)
        content = json.dumps({"fingerprint": model * 64})
        (tmp_path / side / entry / "entry.json").write_text(content)

    for side in ("base", "head"):
        put(side, "digits-v1/theirs", "a")
    for entry, model in (
        ("digits-v1/copy", "a"),
        ("digits-v1/other", "b"),
        ("digits-v2/theirs", "a"),
        ("digits-v1/theirs/attacks/search", "a"),
    ):
        put("head", entry, model)
    notes = collect(tmp_path / "base", tmp_path / "head", tmp_path / "data").notes
    also = ", AS IS digits-v1/theirs: of one model the lower entry is ranked"
    assert notes == (
        f"digits-v1/copy is new, of model {'a' * 12}{also}",
        f"digits-v1/other is new, of model {'b' * 12}",
        f"digits-v1/theirs/attacks/search is new, of model {'a' * 12}",
        f"digits-v2/theirs is new, of model {'a' * 12}",
    )


# ---- 7. What a server is sent ----


def test_a_server_says_nothing_of_what_is_no_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor of who is gone before the answer is, by the hundred; and goes on."""
    write_files(tmp_path / "site", [("index.html", b"<p>mine</p>" * 10_000)])
    wanted = "GET / HTTP/1.1\r\nHost: localhost\r\n"
    sent = [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%ff%fe/..%2f..%2fetc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 70_000,
        wanted.encode() + b"X: y\r\n" * 200 + b"\r\n",
        wanted.encode() + b"If-Modified-Since: \xff\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        *[f"{wanted}\r\n".encode()] * 50,
    ]
    with _server(tmp_path / "site", 0) as server:
        threading.Thread(target=server.serve_forever).start()
        for content in sent:
            with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as line:
                # Closed so, the connection is reset, in the middle of the answer.
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                line.sendall(content)
        assert asked(server.server_port, "localhost") == "200"
        assert asked(server.server_port, "localhost", "evil.example") == "421"
        assert asked(server.server_port, "evil.example", "localhost") == "421"
        elsewhere = "http://evil.example/index.html"
        assert asked(server.server_port, "localhost", target=elsewhere) == "404"
        server.shutdown()
    assert capfd.readouterr().err == ""
