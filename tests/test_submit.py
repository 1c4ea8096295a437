"""Submissions: from a run to an entry, and nothing in between."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from evidence_runs import BOARD, SAID, reason, registered, run, submitted, tiny, verified
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust.board.board import contender, make_board
from genrobust.board.submit import SubmitOptions, _move, slug_of, submit
from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.evidence.bundle import EVIDENCE, RECORD, read_evidence
from genrobust.evidence.entries import read_entry
from genrobust.evidence.entry import BundledModel, Entry, ExternalModel, ZooModel
from genrobust.evidence.shown import example_positions
from genrobust.models import load_model
from genrobust.runner.options import Options
from genrobust.runner.prepare import prepare
from genrobust.runner.run import execute
from genrobust.verify.entries import verified_entries
from genrobust.verify.pictures import VALUES, traversals
from genrobust.verify.replay import Replay
from genrobust.verify.verify import Verified, VerifyOptions, verify

pytestmark = pytest.mark.usefixtures("brief")

WORDS = [
    *("--name", "Plain VAE", "--author", "Ada Author, Some University", "--licence", "MIT"),
    *("--training-data", "the digits' training split", "--workers", "1"),
]


OWN = """
import torch
from torch import nn

class Own(nn.Module):
    input_shape = (1, 32, 32)

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def encode(self, x):
        return self.weight * x.flatten(1)

    def decode(self, z):
        return (0.05 + 0.9 * z.view(-1, 1, 32, 32)).clamp(0, 1)
"""


def cli(*words: str | Path, answers: str | None = None) -> tuple[int, str]:
    with registered():
        ended = CliRunner().invoke(app, ["submit", *map(str, words)], input=answers)
    return ended.exit_code, " ".join(ended.output.split())


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def entries(tiny_entry: Path, tmp_path: Path) -> Path:
    """A copy of the entries that a test may change."""
    copy = tmp_path / "entries"
    shutil.copytree(tiny_entry.parents[1], copy)
    return copy


@pytest.fixture(scope="module")
def attack_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of another attack on the model of the entry."""
    return run(tmp_path_factory.mktemp("attack") / "run", attacks=("bim",))


@pytest.fixture
def known(tiny_entry: Path, replayed: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small run is not replayed again: that of its entry is what any replay of it finds."""
    verification = read_entry(tiny_entry).verification
    assert verification is not None
    found = Verified(verification, None, replayed)

    def verify_(path: Path, options: VerifyOptions, **how: object) -> Verified:
        return found if options.depth == "replay" else verify(path, options)

    monkeypatch.setattr("genrobust.board.submit.verify", verify_)


def test_a_run_becomes_an_entry_with_all_that_belongs_to_it(
    tiny_run: Path, tiny_entry: Path
) -> None:
    found = read_entry(tiny_entry)
    assert tiny_entry.parts[-2:] == (BOARD, "plain-vae")
    assert found.entry.submission == SAID
    assert found.entry.model == ZooModel(name="vae", dataset="digits")
    assert found.entry.fingerprint == load_model("vae").fingerprint()
    assert found.state == "replay"
    assert (tiny_entry / RECORD).read_bytes() == (tiny_run / RECORD).read_bytes()
    assert {path.name for path in tiny_entry.iterdir()} == {
        *("entry.json", "record.json", "outcomes.json", "evidence.zip", "verification.json"),
        *("thumbnails.png", "traversals.png"),
    }
    assert not [path for path in tiny_entry.parents[1].iterdir() if path.name.startswith(".")]


def test_pictures_show_the_examples_that_the_site_names(tiny_entry: Path) -> None:
    """Four rows and a column an example; a source that holds is shown as it is."""
    found = read_entry(tiny_entry)
    positions = example_positions(found.outcomes)
    picture = torch.tensor(np.asarray(Image.open(tiny_entry / "thumbnails.png"), int))
    rows = picture.view(4, 32, len(positions), 32)
    images = genrobust.load_images("digits").take([found.outcomes.sample_ids[i] for i in positions])
    for column, (position, image) in enumerate(zip(positions, images, strict=True)):
        assert torch.equal(rows[0, :, column], image[0].mul(255).round().long())
        changed = (rows[1, :, column] - rows[0, :, column]).abs().max() / 255
        place = found.outcomes.ignore_target[position]
        limit = 0 if place is None else found.outcomes.eps[place]
        assert changed <= limit + 1 / 255
        assert (changed > 0) == (place is not None)
    assert Image.open(tiny_entry / "traversals.png").size == (VALUES * 32, 5 * 32)


def test_traversals_move_one_latent_and_end_where_they_should(
    tiny_vae: genrobust.GenerativeModel,
) -> None:
    """A categorical is among the latents; a model without a prior has no traversals."""
    x = torch.rand(4, 1, 32, 32)
    assert traversals(tiny_vae, x) is not None
    assert traversals(genrobust.wrap(Points()), x) is None


class Points(nn.Module):
    """A plain autoencoder: its code is the image."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def encode(self, x: Tensor) -> Tensor:
        return self.scale * x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.view(-1, 1, 32, 32)


@pytest.mark.usefixtures("known")
def test_a_dry_run_shows_the_board_and_writes_nothing(tiny_run: Path, entries: Path) -> None:
    before = tree(entries)
    code, output = cli(
        *(tiny_run, *WORDS, "--slug", "again", "--entries", entries, "--dry-run"),
    )
    assert code == 0, output
    assert "nothing was written; it would be" in output
    assert output.count("Plain VAE") == 2
    assert "<- this one" in output
    assert tree(entries) == before
    code, output = cli(tiny_run, *WORDS, "--entries", entries.with_name("new"), "--dry-run")
    assert code == 0, output
    assert not entries.with_name("new").exists()


@pytest.mark.slow
def test_from_a_run_to_the_built_site_in_two_commands(tiny_run: Path, tmp_path: Path) -> None:
    code, output = cli(tiny_run, *WORDS, "--entries", tmp_path / "entries", "--yes")
    assert code == 0, output
    assert "gh pr create --title 'Plain VAE on tiny-v1'" in output
    assert f"git add {tmp_path / 'entries' / BOARD / 'plain-vae'}" in output
    with registered():
        site = ["--entries", str(tmp_path / "entries"), "--out", str(tmp_path / "site")]
        built = CliRunner().invoke(app, ["leaderboard", "build", *site])
    assert built.exit_code == 0, built.output
    page = (tmp_path / "site" / BOARD / "plain-vae" / "index.html").read_text()
    assert "Ada Author" in page
    assert "thumbnails.png" in page
    assert "Rank 1" in page


@pytest.mark.slow
def test_a_run_without_evidence_has_it_made(
    tiny_run: Path, tiny_entry: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(tiny_run, bare)
    (bare / EVIDENCE).unlink()
    entry = submitted(tmp_path / "entries", bare)
    assert (entry / EVIDENCE).read_bytes() == (tiny_entry / EVIDENCE).read_bytes()
    assert not (bare / EVIDENCE).exists()


def test_a_slug_that_is_taken_is_refused(tiny_run: Path, entries: Path) -> None:
    before = tree(entries)
    code, output = cli(tiny_run, *WORDS, "--entries", entries, "--yes")
    assert (code, "choose another name with --slug" in output) == (2, True)
    assert tree(entries) == before


def test_a_slug_that_is_taken_meanwhile_is_refused_too(tmp_path: Path) -> None:
    """Of two that submit at once, to a folder that both can write to."""
    staged, folder = tmp_path / "staged", tmp_path / BOARD / "mine"
    for place in (staged, folder):
        place.mkdir(parents=True)
        (place / "entry.json").write_text(place.name)
    with pytest.raises(GenrobustError, match=r"mine' is there already; choose .* --slug"):
        _move(staged, folder)
    assert (folder / "entry.json").read_text() == "mine"


def test_what_is_missing_is_named_where_nobody_can_be_asked(tiny_run: Path, tmp_path: Path) -> None:
    code, output = cli(tiny_run, "--entries", tmp_path / "entries", "--licence", "MIT")
    assert code == 2
    assert "a submission also needs --name, --author, --training-data" in output
    assert not (tmp_path / "entries").exists()


def test_a_wrong_folder_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    code, output = cli(tmp_path / "nowhere", "--entries", tmp_path / "entries")
    assert code == 2
    assert "nowhere" in output
    assert "--name" not in output


@pytest.mark.usefixtures("known")
def test_what_is_missing_is_asked_for_on_a_terminal(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrobust.cli.submit.on_terminal", lambda: True)
    answers = "My VAE\nAda Author, Some University; Bob Builder\nMIT\nthe digits\nA note.\ny\n"
    code, output = cli(
        *(tiny_run, "--entries", tmp_path / "entries", "--workers", "1"), answers=answers
    )
    assert code == 0, output
    said = read_entry(tmp_path / "entries" / BOARD / "my-vae").entry.submission
    assert [author.name for author in said.authors] == ["Ada Author", "Bob Builder"]
    assert (said.authors[0].affiliation, said.authors[1].affiliation) == ("Some University", None)
    assert (said.licence, said.training_data, said.note) == ("MIT", "the digits", "A note.")


@pytest.mark.usefixtures("known")
def test_a_submitter_can_still_say_no(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrobust.cli.submit.on_terminal", lambda: True)
    code, _ = cli(tiny_run, *WORDS, "--entries", tmp_path / "entries", answers="n\n")
    assert code == 1
    assert not (tmp_path / "entries").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--link", "https://example.org"], "write it as label=https://"),
        (["--link", "site=http://example.org"], "write it as label=https://"),
        (["--author", ", Nowhere"], "write 'Name' or 'Name, Affiliation'"),
        (["--note", "n" * 3000], "--note cannot be taken"),
        (["--name", "n" * 100], "--name cannot be taken"),
        (["--slug", "../escape"], "--slug '../escape' cannot be taken"),
        (["--source", "ftp://example.org/w.pt", "--weights", "w.pt"], "--source"),
        (["--source", "https://example.org/w.pt"], "give the file as --weights"),
        (["--attack-on", "nobody"], "there is no entry 'nobody' on the board tiny-v1"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(
    words: list[str], said: str, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "w.pt").write_bytes(b"")
    given = [str(tmp_path / word) if word == "w.pt" else word for word in words]
    code, output = cli(tiny_run, *WORDS, *given, "--entries", tmp_path / "entries", "--yes")
    assert code == 2, output
    assert said in output
    assert not (tmp_path / "entries").exists()


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a model of one's own, as data, beside its code and weights."""
    from genrobust.models.networks import NetworkSpec, initialised

    home = tmp_path_factory.mktemp("own")
    (home / "own.py").write_text(
        "from genrobust.models.networks import NetworkSpec, initialised\n"
        "def build():\n    return initialised(NetworkSpec(gaussian=3, layers='dense'), seed=1)\n"
    )
    state = initialised(NetworkSpec(gaussian=3, layers="dense"), seed=2).state_dict()
    torch.save(state, home / "weights.pt")
    return run(home / "run", f"{home}/own.py:build", weights=home / "weights.pt")


@pytest.mark.slow
def test_a_model_of_ones_own_goes_into_the_entry_as_data(own_run: Path, tmp_path: Path) -> None:
    """Whoever verifies it needs neither the code nor trust."""
    home = own_run.parent.rename(tmp_path / "elsewhere")
    entry = submitted(tmp_path / "entries", home / "run", "Own")
    home.rename(own_run.parent)
    said = read_entry(entry).entry.model
    assert said == BundledModel(format="safetensors", architecture="ConvVAE")
    found = verified(entry)
    assert found.passed, reason(found)


@pytest.mark.slow
def test_weights_that_are_elsewhere_do_not_go_along(own_run: Path, tmp_path: Path) -> None:
    assert read_evidence(own_run / EVIDENCE).model is not None
    weights = own_run.with_name("weights.pt")
    how = {"source": "https://example.org/weights.pt", "weights": weights}
    entry = submitted(tmp_path / "entries", own_run, "Elsewhere", **how)
    evidence = read_evidence(entry / EVIDENCE)
    assert (evidence.model, evidence.model_files) == (None, {})
    said = read_entry(entry).entry.model
    assert isinstance(said, ExternalModel)
    assert said.reference == f"{own_run.parent}/own.py:build"


def said_to_be_official(run: Path) -> None:
    record = json.loads((run / RECORD).read_text())
    record |= {"official": True, "deviations": []}
    (run / RECORD).write_text(json.dumps(record))


@pytest.mark.slow
def test_weights_of_a_run_as_data_cannot_be_said_to_be_elsewhere(tmp_path: Path) -> None:
    """An exported graph is another thing than the module that others would load."""
    code, weights = tmp_path / "own.py", tmp_path / "weights.pt"
    code.write_text(OWN)
    torch.save({"weight": torch.ones(1)}, weights)
    folder = run(tmp_path / "run", f"{code}:Own", weights=weights, limit=2, attacks=("noise",))
    said_to_be_official(folder)
    how = {"source": "https://example.org/weights.pt", "weights": weights}
    with pytest.raises(GenrobustError, match="made with --evidence, which scores a model as data"):
        submitted(tmp_path / "entries", folder, "Elsewhere", **how)


def test_what_is_not_official_is_refused_and_a_live_object_must_be_named(tmp_path: Path) -> None:
    with registered() as suite:
        prepared = prepare(load_model("vae"), suite.limited(24), Options(workers=1))
        small = Options(attacks=("noise",), workers=1, limit=2)
        execute(prepare(load_model("vae"), tiny(), small), tmp_path / "run")
    assert prepared.model.reference == "a live object"
    with pytest.raises(GenrobustError, match=r"not official \(attacks noise.*the first 2 of 24"):
        submitted(tmp_path / "entries", tmp_path / "run")
    said_to_be_official(tmp_path / "run")
    with pytest.raises(GenrobustError, match="give it with --model FILE"):
        submitted(tmp_path / "entries", tmp_path / "run")
    assert not (tmp_path / "entries").exists()


@pytest.mark.slow
def test_an_attack_lowers_the_score_of_the_entry_it_is_on(attack_run: Path, entries: Path) -> None:
    model = entries / BOARD / "plain-vae"
    before = make_board([contender(read_entry(model))]).rows[0]
    folder = submitted(entries, attack_run, "Basic iterative", attack_on="plain-vae")
    assert folder == model / "attacks" / "basic-iterative"
    said = Entry.model_validate_json((folder / "entry.json").read_bytes())
    assert (said.kind, said.model) == ("attack", ZooModel(name="vae", dataset="digits"))
    found = verified(folder, "re-attack")
    assert found.passed, reason(found)
    assert found.depth == "replay"
    loaded = read_entry(model)
    row = make_board([contender(loaded)]).rows[0]
    assert row.lowerings[0].accepted
    places = zip(
        loaded.outcomes.ignore_target, loaded.attacks[0].outcomes.ignore_target, strict=True
    )
    first = [min(2 if place is None else place for place in both) for both in places]
    small, large = (sum(place > e for place in first) / 24 for e in (0, 1))
    by_hand = (0.04 * (1 + small) / 2 + 0.06 * (small + large) / 2) / 0.1
    assert row.area == pytest.approx(by_hand)
    assert row.area <= before.area
    assert verified(model).passed


@pytest.mark.slow
def test_an_attack_on_another_model_is_refused(entries: Path, own_run: Path) -> None:
    with pytest.raises(GenrobustError, match=r"--model vae --attack NAME"):
        submitted(entries, own_run, "Noise", attack_on="plain-vae")


@pytest.mark.slow
def test_an_attack_under_other_radii_is_refused(entries: Path, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", attacks=("noise",), eps=(0.3,))
    before = tree(entries)
    with pytest.raises(GenrobustError, match="other sources, radii or judges"):
        submitted(entries, folder, "Noise", attack_on="plain-vae")
    assert tree(entries) == before


@pytest.mark.usefixtures("known")
def test_a_failure_half_way_leaves_the_entries_as_they_were(
    tiny_run: Path, entries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(entries)

    def full(*given: object) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genrobust.board.submit.traversals", full)
    with pytest.raises(GenrobustError, match="No space left"):
        submitted(entries, tiny_run, "Another")
    assert tree(entries) == before
    assert not [path for path in entries.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_flags_are_said_and_do_not_keep_a_run_out(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half of the sources unread the run is flagged by its few eligible ones."""
    monkeypatch.setattr("genrobust.outcomes.flags.FEW", 30)
    copy = tmp_path / "run"
    shutil.copytree(tiny_run, copy, ignore=shutil.ignore_patterns("evidence.zip"))
    with registered() as suite:
        execute(prepare("vae", suite, Options(evidence=True, workers=1)), copy)
    code, output = cli(copy, *WORDS, "--entries", tmp_path / "entries", "--yes")
    assert code == 0, output
    assert "flag, with which it is not ranked: few eligible sources" in output
    assert "unreliable" in output


@pytest.mark.usefixtures("known")
def test_a_pull_request_is_opened_only_when_asked(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("git", "gh"):
        program = programs / name
        program.write_text(f'#!/bin/sh\necho "{name} $1" >> {calls}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin:/usr/bin")
    where = ["--entries", tmp_path / "entries", "--yes"]
    assert cli(tiny_run, *WORDS, *where)[0] == 0
    assert not calls.exists()
    assert cli(tiny_run, *WORDS, *where, "--slug", "second", "--open-pr")[0] == 0
    assert calls.read_text().split("\n")[:-1] == [
        *("git switch", "git add", "git commit", "git push", "gh pr"),
    ]
    (programs / "git").write_text("#!/bin/sh\nexit 1\n")
    code, output = cli(tiny_run, *WORDS, *where, "--slug", "third", "--open-pr")
    assert code == 2
    assert "go on from this step" in output
    monkeypatch.setenv("PATH", str(tmp_path))
    code, output = cli(tiny_run, *WORDS, *where, "--slug", "fourth", "--open-pr")
    assert (code, "'gh', which is not installed" in output) == (2, True)
    assert not (tmp_path / "entries" / BOARD / "fourth").exists()


@given(st.text(max_size=100))
def test_a_slug_is_one_whatever_the_name(name: str) -> None:
    try:
        slug = slug_of(name)
    except GenrobustError:
        assert not re.search(r"[a-zA-Z0-9]", name)
        return
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)
    assert len(slug) <= 60


def test_entries_are_read_by_the_site_as_they_were_written(entries: Path) -> None:
    with registered():
        found = verified_entries(entries)
    assert [(one.entry.slug, one.state) for one in found] == [("plain-vae", "replay")]


@pytest.mark.usefixtures("known")
def test_submit_in_python_gives_the_board(tiny_run: Path, tmp_path: Path) -> None:
    with registered():
        options = SubmitOptions(entries=tmp_path / "entries", workers=1)
        done = submit(tiny_run, SAID, options, dry_run=True)
    assert [row.contender.name for row in done.board.rows] == ["Plain VAE"]
    assert done.verification.passed
    assert not done.folder.exists()
