"""What a user names is read if it is a regular file with UTF-8 in it; all else is one sentence."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from evidence_runs import BOARD, reason, registered, verified
from leaderboard_entries import Fake, write_run
from torch import Tensor, nn
from typer.testing import CliRunner

import genrobust
from genrobust import files
from genrobust.cli.app import app
from genrobust.data.base import DATASETS, Images, load_images
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.evidence.archive import read_archive
from genrobust.evidence.bundle import EVIDENCE, LIMITS, MANIFEST, RECORD, unpack
from genrobust.models.portable import export_model
from genrobust.models.zoo import load_model
from genrobust.site.serve import _server, boards_with_runs
from genrobust.suites import Suite, load_suite
from genrobust.suites.suite import MAX_CHUNK, MAX_DRAWS, MAX_EPS, MAX_RESAMPLES, SUITES, read_suite

pytestmark = pytest.mark.usefixtures("brief")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


Kind = Callable[[Path], None]
KINDS: list[Kind] = [_pipe, _folder, _socket, _device]


def _name(kind: Kind | str) -> str:
    return kind if isinstance(kind, str) else kind.__name__[1:]


kinds = pytest.mark.parametrize("kind", KINDS, ids=_name)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where names are short: a socket's path has 100 characters at most."""
    monkeypatch.chdir(tmp_path)
    return Path()


@kinds
def test_only_regular_files_are_opened(kind: Kind, place: Path) -> None:
    path = place / "it"
    kind(path)
    for read in (files.read_bytes, files.read_text, files.read_tensors):
        with pytest.raises(files.UnfitError, match=f"it is a {kind.__name__[1:]}, not a file"):
            read(path)  # type: ignore[operator]


def test_text_is_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("héllo", encoding="utf-8-sig")
    assert files.read_text(path) == "héllo"
    path.write_text("héllo", encoding="utf-8")
    assert files.read_text(path) == "héllo"
    for encoding in ("utf-16", "utf-16-le", "utf-32", "latin-1"):
        path.write_text("héllo", encoding=encoding)
        if encoding != "utf-16-le":
            with pytest.raises(files.UnfitError, match="not text in UTF-8"):
                files.read_text(path)


def test_a_file_may_have_as_many_bytes_as_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abcd")
    assert files.read_bytes(tmp_path / "file", most=4) == b"abcd"
    with pytest.raises(files.UnfitError, match="more than the 3 bytes"):
        files.read_bytes(tmp_path / "file", most=3)


@kinds
def test_a_suite_is_a_file(kind: Kind, place: Path) -> None:
    kind(place / "own.json")
    ended = CliRunner().invoke(app, ["bench", "--model", "vae", "--suite", "own.json"])
    assert ended.exit_code == 2, ended.output
    assert f"it is a {kind.__name__[1:]}, not a file" in ended.output


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_a_suite_is_in_utf8(encoding: str, tmp_path: Path) -> None:
    suite = load_suite("digits").model_copy(update={"description": "héllo"})
    path = tmp_path / "own.json"
    path.write_text(suite.model_dump_json(), encoding="utf-8-sig")
    assert read_suite(path) == suite
    path.write_text(suite.model_dump_json(), encoding=encoding)
    with pytest.raises(GenrobustError, match="not text in UTF-8"):
        read_suite(path)


def twice(text: str, key: str) -> str:
    """The JSON with one of its keys once more, before where it stands."""
    named = f'"{key}":'
    assert named in text
    return text.replace(named, f"{named} 0, {named}", 1)


def test_a_suite_says_each_thing_once(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    for key in ("eps", "goal"):  # of the whole, and of an attack
        path.write_text(twice(load_suite("digits").model_dump_json(), key))
        with pytest.raises(GenrobustError, match=f"it has the key '{key}' twice in one place"):
            read_suite(path)


SUITE = load_suite("digits")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("resamples", 10**9), ("resamples", MAX_RESAMPLES + 1), ("resamples", 10**400)),
        *(("chunk_size", 10**9), ("chunk_size", MAX_CHUNK + 1), ("chunk_size", -1)),
        *(("eps", [float("nan")]), ("eps", [0.1, float("inf")]), ("eps", [-0.1])),
        *(("eps", [2 * MAX_EPS]), ("eps", [e / 2000 for e in range(1001)])),
        *(("confidence", float("nan")), ("confidence", 1), ("version", -1)),
        *(("sample_ids", [-1] * 450), ("sample_ids", [2**31] * 450)),
        *(("target_ids", [-1] * 450), ("target_ids", [10**30] * 450)),
        ("attacks", [{"attack": "noise", "goal": "untargeted"}] * 1001),
    ],
)
def test_a_suite_has_limits(field: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    count = len(SUITE.sample_ids)
    fitting = value[:1] * count if field.endswith("_ids") and isinstance(value, list) else value
    path.write_text(json.dumps({**json.loads(SUITE.model_dump_json()), field: fitting}))
    with pytest.raises(GenrobustError, match=f"is not a suite: {field}"):
        read_suite(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"esp": [0.1]}, r"unknown key 'esp'; did you mean 'eps'\? Known: attacker_judge, attacks"),
        (
            {"attacks": [{"attack": "noise", "goal": "untargeted", "setings": {}}]},
            r"attacks.0: unknown key 'setings'; did you mean 'settings'\? Known: attack, ",
        ),
        ({"attacks": "noise"}, "attacks: give a list, not 'noise'"),
        ({"attacks": ["noise"]}, "attacks.0: give keys with their values, not 'noise'"),
        ({"name": "a/b"}, "name: 'a/b' cannot name the folder"),
    ],
)
def test_what_a_suite_has_none_of_is_named_with_what_it_has(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(json.loads(SUITE.model_dump_json()) | change))
    with pytest.raises(GenrobustError, match=f"is not a suite: {said}"):
        read_suite(path)


def test_resamples_and_sources_together_are_limited() -> None:
    """All resamples of an interval are in memory at once."""
    said = json.loads(SUITE.model_dump_json())
    most = 40_000
    ids = {"sample_ids": [0] * (MAX_DRAWS // most), "target_ids": [1] * (MAX_DRAWS // most)}
    assert Suite.model_validate({**said, **ids, "resamples": most}).resamples == most
    with pytest.raises(ValueError, match="at most 40,000"):
        Suite.model_validate({**said, **ids, "resamples": most + 1})


def test_the_limits_themselves_are_allowed() -> None:
    said = json.loads(SUITE.limited(10).model_dump_json())
    most = {"resamples": MAX_RESAMPLES, "chunk_size": MAX_CHUNK, "eps": [0, MAX_EPS]}
    assert Suite.model_validate({**said, **most}).eps == (0, MAX_EPS)


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize("bracket", ["[]", "{}"])
def test_json_that_is_too_deep_is_no_suite(depth: int, bracket: str, tmp_path: Path) -> None:
    opening = '{"a":' if bracket == "{}" else "["
    path = tmp_path / "own.json"
    path.write_text('{"attacks":' + opening * depth + "1" + bracket[1] * depth + "}")
    with pytest.raises(GenrobustError, match="is not a suite"):
        read_suite(path)


@pytest.mark.parametrize("eps", ["nan", "inf", "-0.1", "1e300"])
def test_a_radius_is_a_number_that_a_ball_can_have(eps: str) -> None:
    ended = CliRunner().invoke(app, ["bench", "--model", "vae", "--eps", eps])
    assert ended.exit_code == 2
    assert "eps is" in ended.output


class Waves:
    """A data set that lies where it is said to."""

    name = "waves-of-this-test"
    classes = tuple("0123456789")
    image_shape = (1, 32, 32)

    def load(self, split: str, root: Path | None) -> Images:
        if root is None or not (root / "waves").exists():
            raise GenrobustError("the waves are not there; give their folder with --data-root")
        images = load_images("digits", "test")
        return Images(images.raw, images.labels, images.size)


def of_waves() -> Suite:
    sha256 = load_images(Waves.name).sha256
    update = {"name": "waves", "dataset": Waves.name, "data_sha256": sha256}
    return SUITE.limited(2).model_copy(update=update)


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Any:
    """A plugin's suite under the name 'waves'."""
    DATASETS._registered[Waves.name] = Waves()
    SUITES._registered["waves"] = request.param
    yield
    del DATASETS._registered[Waves.name], SUITES._registered["waves"]


@pytest.mark.parametrize("made", [of_waves], indirect=True)
def test_a_plugins_suite_finds_its_data_where_data_root_says(made: Any, tmp_path: Path) -> None:
    (tmp_path / "waves").touch()
    assert load_suite("waves", tmp_path).dataset == Waves.name
    with pytest.raises(GenrobustError, match="give their folder with --data-root"):
        load_suite("waves")
    for command in (["bench"], ["curve"]):
        words = [*command, "--model", "vae", "--suite", "waves", "--data-root", str(tmp_path)]
        ended = CliRunner().invoke(app, words)
        assert "are not there" not in ended.output, ended.output
        assert "no judge" in ended.output or "no weights" in ended.output
    with pytest.raises(GenrobustError, match=r"no weights|no judge"):
        genrobust.bench("vae", "waves", data_root=tmp_path)


def _raises() -> Suite:
    raise FileNotFoundError("waves.npz")


def _leaves() -> Suite:
    raise SystemExit(0)


def _too_many() -> Suite:
    return SUITE.model_copy(update={"resamples": 10**9})


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (_raises, "FileNotFoundError: waves.npz"),
        (_leaves, "SystemExit: 0"),
        (lambda root: SUITE, "TypeError: .* 1 required positional argument"),
        (lambda: None, "AttributeError"),
        (_too_many, "resamples: Input should be less than or equal"),
    ],
    indirect=["made"],
)
def test_what_a_plugins_suite_does_wrong_is_one_sentence(made: Any, said: str) -> None:
    with pytest.raises(GenrobustError, match=said):
        load_suite("waves")
    ended = CliRunner().invoke(app, ["bench", "--model", "vae", "--suite", "waves"])
    assert ended.exit_code == 2


@pytest.fixture
def entry(tiny_entry: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "entries" / BOARD / tiny_entry.name
    shutil.copytree(tiny_entry, copy)
    return copy


@pytest.mark.slow
@kinds
@pytest.mark.parametrize(
    "name", ["entry.json", RECORD, "outcomes.json", EVIDENCE, "thumbnails.png", "traversals.png"]
)
def test_an_entry_consists_of_files(
    kind: Kind, name: str, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry / name).unlink()
    monkeypatch.chdir(entry)
    kind(Path(name))
    told = reason(verified(entry, "schema"))
    assert name in told or "is a link" in told
    with registered():
        ended = CliRunner().invoke(
            app, ["leaderboard", "build", "--entries", str(entry.parents[1]), "--out", "site"]
        )
    assert ended.exit_code == 0  # of no one's folder the whole board falls
    assert "is left out: " in " ".join(ended.output.split())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_an_entry_is_in_utf8(encoding: str, entry: Path) -> None:
    path = entry / "entry.json"
    text = path.read_text().replace("Ada", "Ádá")
    path.write_text(text, encoding=encoding)
    found = verified(entry, "schema")
    assert found.passed == (encoding == "utf-8-sig")
    if not found.passed:
        assert "not text in UTF-8" in reason(found)


@pytest.mark.parametrize("name", ["entry.json", RECORD, "outcomes.json"])
def test_an_entry_says_each_thing_once(name: str, entry: Path) -> None:
    path = entry / name
    path.write_text(twice(path.read_text(), next(iter(json.loads(path.read_text())))))
    assert re.search(r"has the key '\w+' twice in one place", reason(verified(entry, "schema")))


@pytest.mark.parametrize("name", [MANIFEST, RECORD, "outcomes.json"])
def test_evidence_says_each_thing_once(name: str, entry: Path) -> None:
    contents = read_archive(entry / EVIDENCE, LIMITS)
    first = next(iter(json.loads(contents[name])))
    changed = {**contents, name: twice(contents[name].decode(), first).encode()}
    with pytest.raises(GenrobustError, match=f"{name} is not .* key '{first}' twice in one place"):
        unpack(changed)


@pytest.mark.parametrize("kind", [*KINDS, "utf-16", "twice"], ids=_name)
def test_a_card_beside_weights_is_text_in_a_file(kind: Any, place: Path, tmp_path: Path) -> None:
    shipped = Path(genrobust.__file__).parent / "weights" / "digits"
    shutil.copy(shipped / "vae.safetensors", "own.safetensors")
    card = (shipped / "vae.json").read_text()
    Path("own.json").write_text(card, encoding="utf-8-sig")
    assert load_model("vae", weights="own.safetensors").name == "own"
    Path("own.json").unlink()
    if callable(kind):
        kind(Path("own.json"))
    elif kind == "twice":
        Path("own.json").write_text(twice(card, "seed"))
    else:
        Path("own.json").write_text(card, encoding=kind)
    with pytest.raises(GenrobustError, match=r"'own\.json', beside the weights, cannot be read"):
        load_model("vae", weights="own.safetensors")


@kinds
def test_weights_are_a_file(kind: Kind, place: Path) -> None:
    for name in ("own.safetensors", "own.pt"):
        kind(Path(name))
        with pytest.raises(GenrobustError, match=r"no weights file|is a folder; give the file"):
            load_model("vae", weights=name)


@pytest.mark.parametrize("kind", [*KINDS, "utf-16", "{}"], ids=_name)
def test_serve_names_the_run_that_it_leaves_out_in_a_line(kind: Any, place: Path) -> None:
    write_run(Path("runs/good"), Fake("good"))
    Path("runs/bad").mkdir()
    path = Path("runs/bad/record.json")
    if callable(kind):
        kind(path)
    elif kind == "{}":
        path.write_text(kind)
    else:
        path.write_text(Path("runs/good/record.json").read_text(), encoding=kind)
    with pytest.warns(GenrobustWarning) as warned:
        (board,) = boards_with_runs(None, Path("runs"))
    (words,) = (str(one.message) for one in warned)
    assert "runs/bad/record.json' is left out: it" in words
    assert "\n" not in words
    assert [row.contender.id for row in board.rows] == ["yours/good"]


def test_serve_reads_records_with_a_mark(tmp_path: Path) -> None:
    write_run(tmp_path / "good", Fake("good"))
    for name in ("record.json", "outcomes.json"):
        path = tmp_path / "good" / name
        path.write_text(path.read_text(), encoding="utf-8-sig")
    (board,) = boards_with_runs(None, tmp_path)
    assert board.rows[0].standing == "ranked"


@pytest.mark.parametrize(
    "request_line", [b"GET /%00 HTTP/1.0", b"\x00\xff", b"GET /" + b"a" * 70_000 + b" HTTP/1.0"]
)
def test_serve_answers_what_is_no_request_without_a_word(
    request_line: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        _server(tmp_path, 0) as server,
        socket.create_connection(("127.0.0.1", server.server_port)) as client,
    ):
        client.sendall(request_line + b"\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        server.handle_request()
        client.settimeout(20)
        assert client.recv(9)
    assert capfd.readouterr().err == ""


def test_serve_does_not_mind_a_connection_that_is_closed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with _server(tmp_path, 0) as server:
        for problem in (ConnectionResetError(), BrokenPipeError()):
            try:
                raise problem
            except OSError:
                server.handle_error(None, ("127.0.0.1", 1))  # type: ignore[arg-type]
    assert capfd.readouterr().err == ""


class Branching(nn.Module):
    """What it does depends on a number in a tensor, which cannot be exported."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1024, 8), nn.Linear(4, 1024)

    def encode(self, x: Tensor) -> list[Tensor]:
        hidden = self.encoder(x.flatten(1))
        if hidden.abs().sum() >= 0:
            hidden = hidden * 2
        return list(hidden.chunk(2, 1))

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(z)).view(-1, *self.input_shape)


def test_a_model_that_cannot_be_exported_is_one_sentence_and_no_graph(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(GenrobustError, match="cannot follow the model's encode") as problem:
        export_model(genrobust.wrap(Branching()))
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("name", ["a\x1b[31mred", "a\x07bell", "a\u202eback"])
def test_what_a_terminal_would_obey_is_not_printed(
    name: str, tiny_run: Path, tmp_path: Path
) -> None:
    words = ["--name", name, "--author", "Ada", "--licence", "MIT", "--training-data", "digits"]
    where = ["--entries", str(tmp_path / "entries"), "--slug", "mine", "--workers", "1"]
    with registered():
        ended = CliRunner().invoke(app, ["submit", str(tiny_run), *words, *where, "--dry-run"])
    assert ended.exit_code == 2, ended.output
    assert "--name cannot be taken" in ended.output
    assert not {"\x1b", "\x07", "\u202e"} & set(ended.output)
