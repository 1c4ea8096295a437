"""The workflows: what a pull request brings is data, and what it reports is hostile text."""

from __future__ import annotations

import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import comment
import pull_request
import pytest
import yaml
from comment import comment_of, result_in
from hypothesis import given
from hypothesis import strategies as st
from pull_request import Changes, Checked, collect, result_of

from genrobust.errors import GenrobustError

FOLDER = Path(__file__).parent.parent / ".github" / "workflows"
COMMIT = "abcdef" * 6 + "0123"
NAMES = sorted(path.name for path in FOLDER.glob("*.yml"))


def workflow(name: str) -> dict[str, Any]:
    found: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text())
    found["on"] = found.pop(True)  # YAML 1.1 reads the key `on` so
    return found


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in workflow(name)["jobs"].values():
        yield from job["steps"]


def checkouts(name: str) -> list[dict[str, Any]]:
    return [s["with"] for s in steps(name) if s.get("uses", "").startswith("actions/checkout@")]


@pytest.mark.parametrize("name", NAMES)
class TestEveryWorkflow:
    def test_never_runs_with_the_rights_of_the_branch_on_code_of_a_pull_request(
        self, name: str
    ) -> None:
        assert "pull_request_target" not in workflow(name)["on"]

    def test_says_what_it_may_and_no_more_than_reading_by_default(self, name: str) -> None:
        assert workflow(name)["permissions"] in ({}, {"contents": "read"})

    def test_puts_no_value_of_an_event_into_a_script(self, name: str) -> None:
        for step in steps(name):
            assert "${{" not in step.get("run", ""), step

    def test_takes_actions_by_their_commit(self, name: str) -> None:
        for step in steps(name):
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])

    def test_leaves_no_token_behind(self, name: str) -> None:
        assert checkouts(name)
        assert all(given["persist-credentials"] is False for given in checkouts(name))

    def test_has_no_secrets_and_no_caches(self, name: str) -> None:
        text = (FOLDER / name).read_text()
        assert "secrets." not in text
        assert "cache" not in text

    def test_ends(self, name: str) -> None:
        assert all(job["timeout-minutes"] <= 120 for job in workflow(name)["jobs"].values())


def test_the_verifying_job_can_only_read() -> None:
    found = workflow("leaderboard-verify.yml")
    assert found["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in found["jobs"].values())
    assert list(found["on"]) == ["pull_request"]


def test_the_verifying_job_keeps_the_pull_request_apart_and_never_runs_it() -> None:
    name = "leaderboard-verify.yml"
    trusted, untrusted = checkouts(name)
    assert trusted["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert (trusted["path"], untrusted["path"]) == ("trusted", "untrusted")
    assert untrusted["sparse-checkout"] == "leaderboard/entries"
    for step in steps(name):
        words = step.get("run", "").split()
        for before, word in zip(["", *words], words, strict=False):
            if "untrusted" in word:
                assert (before, word) == ("--head", "untrusted/leaderboard/entries")
        if "run" in step:  # the program itself comes from the branch
            assert words[0] == "trusted/.venv/bin/python" or step["working-directory"] == "trusted"
            assert "python" not in words[0] or words[1] == "-I"


def test_the_commenting_job_may_comment_and_runs_the_main_branch_alone() -> None:
    name = "leaderboard-comment.yml"
    found = workflow(name)
    assert found["permissions"] == {}
    assert [job["permissions"] for job in found["jobs"].values()] == [
        {"actions": "read", "contents": "read", "pull-requests": "write"}
    ]
    assert [given["ref"] for given in checkouts(name)] == [
        "${{ github.event.repository.default_branch }}"
    ]
    uses = {step["uses"].partition("@")[0] for step in steps(name) if "uses" in step}
    assert uses == {"actions/checkout"}, "an action that unpacks the artifact writes its files"


def test_the_two_workflows_know_each_other() -> None:
    verify, after = workflow("leaderboard-verify.yml"), workflow("leaderboard-comment.yml")
    assert after["on"]["workflow_run"]["workflows"] == [verify["name"]]
    assert set(after["on"]["workflow_run"]["types"]) == {"requested", "completed"}
    uploads = [
        s["with"] for s in steps("leaderboard-verify.yml") if "artifact" in s.get("uses", "")
    ]
    assert [Path(given["path"]).name for given in uploads] == [comment.RESULT]
    scripts = "".join(s.get("run", "") for s in steps("leaderboard-comment.yml"))
    assert f"artifacts?name={uploads[0]['name']}" in scripts
    assert str(comment.MAX_ARTIFACT_BYTES) in scripts


@pytest.mark.parametrize(
    ("name", "module"),
    [("leaderboard-verify.yml", pull_request), ("leaderboard-comment.yml", comment)],
)
def test_commands_in_the_workflows_are_ones_that_exist(
    name: str, module: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    place = rf"tools/{Path(module.__file__).stem}"
    (script,) = (s["run"] for s in steps(name) if re.search(place, s.get("run", "")))
    with pytest.raises(SystemExit):
        module.main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z-]+", script)) <= known


class TestCommentingScripts:
    """The shell of the commenting job, run with a `gh` that gives what GitHub would."""

    OPEN = json.dumps(
        [{"number": 7, "head": {"sha": "old"}}, {"number": 8, "head": {"sha": "new"}}]
    )

    @pytest.fixture
    def run(self, tmp_path: Path) -> Any:
        if not (shutil.which("jq") and shutil.which("bash")):
            pytest.skip("needs bash and jq")
        place = tmp_path / "bin"
        place.mkdir()
        (place / "gh").write_text(
            '#!/bin/sh\necho "$@" >> calls.txt\nnext=$(ls "$ANSWERS" | head -1)\n'
            'cat "$ANSWERS/$next"\nrm "$ANSWERS/$next"\n'
        )
        (place / "gh").chmod(0o755)
        answers = tmp_path / "answers"
        answers.mkdir()

        def call(step: str, given: Sequence[str], **environment: str) -> str:
            for index, answer in enumerate(given):
                (answers / str(index)).write_text(answer)
            script = next(s["run"] for s in steps("leaderboard-comment.yml") if step in s["name"])
            (tmp_path / "output").write_text("")
            subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path,
                check=True,
                env={
                    "PATH": f"{place}{os.pathsep}{os.environ['PATH']}",
                    "GITHUB_OUTPUT": str(tmp_path / "output"),
                    "ANSWERS": str(answers),
                    "REPOSITORY": "someone/genrobust",
                    **environment,
                },
            )
            return (tmp_path / "output").read_text()

        return call

    def test_the_pull_request_is_the_open_one_of_that_commit(
        self, run: Any, tmp_path: Path
    ) -> None:
        branch = '$(touch owned);"; touch owned; `touch owned`'
        found = run("Which", [self.OPEN], HEAD_OWNER="x", HEAD_BRANCH=branch, HEAD_SHA="new")
        assert found == "number=8\n"
        assert f"head=x:{branch}" in (tmp_path / "calls.txt").read_text()
        assert not (tmp_path / "owned").exists()

    def test_no_pull_request_is_found_for_another_commit(self, run: Any) -> None:
        found = run("Which", [self.OPEN], HEAD_OWNER="x", HEAD_BRANCH="y", HEAD_SHA="other")
        assert found == "number=\n"

    @pytest.mark.parametrize(("size", "fetched"), [(1000, True), (1048577, False)])
    def test_an_artifact_above_the_limit_is_not_fetched(
        self, run: Any, tmp_path: Path, size: int, fetched: bool
    ) -> None:
        listed = json.dumps({"artifacts": [{"id": 5, "size_in_bytes": size}]})
        changed = json.dumps([{"filename": "a\nb"}, {"filename": "c", "previous_filename": "d"}])
        run("result", [listed, *(["zip"] if fetched else []), changed], NUMBER="8", RUN="3")
        assert (tmp_path / "artifact.zip").exists() is fetched
        lines = (tmp_path / "changed.txt").read_text().splitlines()
        assert [json.loads(line) for line in lines] == ["a\nb", "c", "d"]


def result(**changes: Any) -> bytes:
    entry = {"path": "digits-v1/my-vae", "passed": True, "output": "all checks passed"}
    whole = {
        **{"schema_version": 1, "depth": "replay", "entries": [entry]},
        **{"problems": [], "notes": []},
    }
    return json.dumps({**whole, **changes}).encode()


def with_output(text: str) -> bytes:
    return result(entries=[{"path": "digits-v1/my-vae", "passed": False, "output": text}])


def shown(text: str) -> str:
    """What a browser shows of the one preformatted block; there is no other markup."""
    assert text.count("<pre>") == text.count("</pre>") == 1
    inside = text.partition("<pre>\n")[2].partition("\n</pre>")[0]
    assert not re.search(r"[<>]", inside)
    return html.unescape(inside)


def test_a_comment_says_what_passed_and_what_failed() -> None:
    text = comment_of(
        result(
            entries=[
                {"path": "digits-v1/my-vae", "passed": True, "output": ""},
                {
                    "path": "digits-v1/my-vae/attacks/strong",
                    "passed": False,
                    "output": "no",
                },
            ],
            problems=["'digits-v1/x' is a link"],
        ),
        COMMIT,
    )
    assert text.startswith(
        "### Leaderboard: 1 of 2 verified (replay), problems: 1 at abcdefabcdef\n"
    )
    assert shown(text).splitlines() == [
        "PROBLEM 'digits-v1/x' is a link",
        "PASSED  digits-v1/my-vae",
        "FAILED  digits-v1/my-vae/attacks/strong",
        "        no",
    ]
    assert "also changes" not in text
    assert "**This pull request also changes 3 files" in comment_of(result(), COMMIT, outside=3)


HOSTILE_TEXT = {
    "an end of the block": "</pre><img src=x onerror=alert(1)>",
    "a fence": "```\n# Heading\n[link](https://evil.example)",
    "an entity": "&lt;/pre&gt;",
    "a comment": "<!-- hidden",
    "colours": "\x1b[31mred\x1b[0m",
    "reordered": "safe \u202e\u2066drowssap",
    "separators": "a\u2028b\u2029c\x00d",
}


@pytest.mark.parametrize("kind", HOSTILE_TEXT)
def test_hostile_text_is_shown_and_does_nothing(kind: str) -> None:
    seen = shown(comment_of(with_output(HOSTILE_TEXT[kind]), COMMIT))
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2028\u2029\u2066-\u2069]", seen)
    if "\n" not in HOSTILE_TEXT[kind] and HOSTILE_TEXT[kind].isprintable():
        assert HOSTILE_TEXT[kind] in seen


def test_nobody_is_mentioned() -> None:
    text = comment_of(with_output("thanks @torvalds and @github/everyone"), COMMIT)
    assert not re.search(r"@\w", text)


@given(st.text(), st.text(), st.booleans())
def test_no_text_adds_markup(output: str, note: str, passed: bool) -> None:
    entry = {"path": "digits-v1/my-vae", "passed": passed, "output": output}
    text = comment_of(result(entries=[entry], notes=[note]), COMMIT)
    shown(text)
    assert not re.search(r"@\w", text)
    assert len(text) <= 65_536


def test_a_long_result_is_cut() -> None:
    text = comment_of(with_output("<" * 200_000 + "\n" + "x\n" * 100_000), COMMIT)
    assert len(text) <= 65_536
    assert shown(text).endswith("[cut]")


HOSTILE_RESULTS = {
    "nothing": b"",
    "not JSON": b"PASSED",
    "not UTF-8": b'"\xff"',
    "a list": b"[]",
    "a number": b"1e999",
    "NaN": b'{"schema_version": NaN}',
    "deep": b"[" * 100_000,
    "a key twice": result()[:-1] + b', "notes": []}',
    "a key more": result(extra=1),
    "a key less": result().replace(b'"notes": []', b'"not": []'),
    "another version": result(schema_version=2),
    "true as a version": result(schema_version=True),
    "another depth": result(depth="replay\n# all is well"),
    "passed as text": result(entries=[{"path": "a-v1/b", "passed": "yes", "output": ""}]),
    "a path out": result(entries=[{"path": "../../x", "passed": True, "output": ""}]),
    "a path with markup": result(entries=[{"path": "a/<b>", "passed": True, "output": ""}]),
    "a note that is a table": result(notes=[{}]),
    "too many entries": result(
        entries=[{"path": "a-v1/b", "passed": True, "output": ""}] * (comment.MAX_ENTRIES + 1)
    ),
    "too many notes": result(notes=["x"] * (comment.MAX_NOTES + 1)),
    "too large": with_output("x" * comment.MAX_BYTES),
    "digits without end": b"1" * 100_000,
}


@pytest.mark.parametrize("kind", HOSTILE_RESULTS)
def test_a_hostile_result_is_no_result(kind: str) -> None:
    text = comment_of(HOSTILE_RESULTS[kind], COMMIT)
    assert text.startswith("### Leaderboard: nothing is verified at abcdefabcdef\n")
    assert len(text) < 1000


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_comment(content: bytes) -> None:
    assert comment_of(content, COMMIT).startswith("### Leaderboard: ")


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def test_the_result_is_read_from_an_artifact_and_nothing_else_is() -> None:
    assert result_in(zipped(result_json=b"{}")) == b"{}"
    encrypted = bytearray(zipped(result_json=b"{}"))
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        encrypted[encrypted.index(mark) + (6 if mark[2] == 3 else 8)] |= 1
    for hostile in (
        b"",
        b"PK\x05\x06",
        zipped(other=b""),
        zipped(result_json=b"{}", other=b""),
        zipped(result_json=bytes(comment.MAX_BYTES + 1)),  # a bomb: about a kilobyte
        zipped(result_json=b"{}" * 100)[:-30],
        bytes(encrypted),
        bytes(comment.MAX_ARTIFACT_BYTES + 1),
    ):
        with pytest.raises(ValueError, match=r"artifact|result"):
            result_in(hostile)


@pytest.mark.parametrize("artifact", [None, b"no zip", zipped(result_json=result())])
def test_the_script_writes_a_comment_whatever_the_artifact(
    artifact: bytes | None, tmp_path: Path
) -> None:
    if artifact is not None:
        (tmp_path / "artifact.zip").write_bytes(artifact)
    changed = ["leaderboard/entries/digits-v1/a/entry.json", ".github/workflows/x.yml", "a\nb"]
    changed.append("docs/a\u2028b\x85c")
    lines = [json.dumps(name, ensure_ascii=False) for name in changed]  # as jq writes them
    (tmp_path / "changed.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
    options = {"--artifact": "artifact.zip", "--changed": "changed.txt", "--commit": COMMIT}
    options |= {"--out": "comment.md"}
    subprocess.run(
        [sys.executable, "-I", comment.__file__, *(w for pair in options.items() for w in pair)],
        cwd=tmp_path,
        check=True,
    )
    text = (tmp_path / "comment.md").read_text()
    assert text.startswith(
        f"### Leaderboard: {'nothing is' if artifact in (None, b'no zip') else '1 of 1'} verified"
    )
    assert "**This pull request also changes 3 files" in text


@pytest.fixture
def entries(tmp_path: Path) -> tuple[Path, Path]:
    """The entries before and with a pull request; both have one entry."""
    for side in ("base", "head"):
        place = tmp_path / side / "digits-v1" / "old-vae"
        place.mkdir(parents=True)
        (place / "entry.json").write_text("old")
        (place / "verification.json").write_text("by us")
    return tmp_path / "base", tmp_path / "head"


def copied(data: Path) -> dict[str, str]:
    return {
        path.relative_to(data).as_posix(): path.read_text()
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }


def test_only_entries_that_changed_are_copied(entries: tuple[Path, Path], tmp_path: Path) -> None:
    base, head = entries
    new = head / "digits-v1" / "new-vae"
    new.mkdir()
    (new / "entry.json").write_text("new")
    changes = collect(base, head, tmp_path / "data")
    note = "digits-v1/new-vae is new, of model that cannot be read"
    assert changes == Changes(("digits-v1/new-vae",), (), (note,))
    assert copied(tmp_path / "data") == {"digits-v1/new-vae/entry.json": "new"}


def test_an_attack_comes_with_the_model_that_it_was_run_on(
    entries: tuple[Path, Path], tmp_path: Path
) -> None:
    base, head = entries
    attack = head / "digits-v1" / "old-vae" / "attacks" / "strong"
    attack.mkdir(parents=True)
    (attack / "entry.json").write_text("attack")
    changes = collect(base, head, tmp_path / "data")
    assert changes.entries == ("digits-v1/old-vae/attacks/strong",)
    assert not changes.problems
    assert copied(tmp_path / "data") == {
        "digits-v1/old-vae/attacks/strong/entry.json": "attack",
        "digits-v1/old-vae/entry.json": "old",
        "digits-v1/old-vae/verification.json": "by us",
    }


def test_a_verification_of_the_submitters_own_is_refused(
    entries: tuple[Path, Path], tmp_path: Path
) -> None:
    base, head = entries
    (head / "digits-v1" / "old-vae" / "verification.json").write_text('{"passed": true}')
    changes = collect(base, head, tmp_path / "data")
    assert changes.entries == ("digits-v1/old-vae",)
    assert changes.problems == (
        "'digits-v1/old-vae/verification.json' is written on the main branch, after a verification "
        "there; leave it out",
    )
    assert copied(tmp_path / "data") == {"digits-v1/old-vae/entry.json": "old"}


def test_a_model_that_is_put_in_the_place_of_another_is_told(
    entries: tuple[Path, Path], tmp_path: Path
) -> None:
    base, head = entries

    def put(side: Path, entry: str, **said: Any) -> None:
        (side / entry).mkdir(parents=True, exist_ok=True)
        (side / entry / "entry.json").write_text(json.dumps(said))

    put(base, "digits-v1/a", fingerprint="a" * 64, note="old")
    put(head, "digits-v1/a", fingerprint="a" * 64, note="new")
    put(base, "digits-v1/b", fingerprint="b" * 64)
    put(head, "digits-v1/b", fingerprint="c" * 64)
    put(head, "digits-v1/c", fingerprint="d" * 64)
    put(head, "digits-v1/d", fingerprint="<b>" * 20)
    put(head, "digits-v1/e", fingerprint=["f" * 64])
    assert collect(base, head, tmp_path / "data").notes == (
        f"digits-v1/a is changed, of the same model: its fingerprint was {'a' * 12} and is "
        f"{'a' * 12}",
        f"digits-v1/b is changed, OF ANOTHER MODEL: its fingerprint was {'b' * 12} and is "
        f"{'c' * 12}",
        f"digits-v1/c is new, of model {'d' * 12}",
        "digits-v1/d is new, of model that is none",
        "digits-v1/e is new, of model that cannot be read",
    )


def test_a_comment_is_of_a_commit_and_of_nothing_else(tmp_path: Path) -> None:
    assert comment_of(result(entries=[]), COMMIT).startswith(
        "### Leaderboard: nothing is verified at abcdefabcdef\n"
    )
    assert "commit `abcdefabcdef` alone" in comment_of(result(), COMMIT)
    for commit in ("", "main", "<b>" * 20, COMMIT[:12], COMMIT + "\n"):
        with pytest.raises(ValueError, match="is no commit"):
            comment_of(result(), commit)


@pytest.mark.parametrize(
    "kind", ["link", "linked folder", "pipe", "large", "script", "upper case", "deep", "removed"]
)
def test_what_is_no_file_of_an_entry_is_refused(
    kind: str, entries: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, head = entries
    board = head / "digits-v1"
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "entry.json").write_text("secret")
    monkeypatch.setattr(pull_request, "MAX_FILE_BYTES", 100)
    if kind == "removed":
        (board / "old-vae" / "entry.json").unlink()
    elif kind == "linked folder":
        (board / "new-vae").symlink_to(tmp_path / "secret")
    else:
        name = {
            **{"script": "conftest.py", "deep": "a/b/c/entry.json"},
        }.get(kind, "entry.json")
        path = board / ("New" if kind == "upper case" else "new-vae") / name
        path.parent.mkdir(parents=True)
        if kind == "link":
            path.symlink_to(tmp_path / "secret" / "entry.json")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.write_text("x" * (101 if kind == "large" else 1))
    changes = collect(base, head, tmp_path / "data")
    assert len(changes.problems) == 1
    assert changes.entries == ()
    assert not (tmp_path / "data").exists()


def test_a_link_in_place_of_a_file_that_was_there_is_refused(
    entries: tuple[Path, Path], tmp_path: Path
) -> None:
    base, head = entries
    path = head / "digits-v1" / "old-vae" / "entry.json"
    path.unlink()
    path.symlink_to(base / "digits-v1" / "old-vae" / "entry.json")
    assert "link" in collect(base, head, tmp_path / "data").problems[0]


@pytest.mark.parametrize("limit", ["MAX_CHANGES", "MAX_ENTRIES"])
def test_too_much_at_once_is_refused(
    limit: str, entries: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, head = entries
    for slug in ("a", "b"):
        (head / "digits-v1" / slug).mkdir()
        (head / "digits-v1" / slug / "entry.json").write_text("new")
    monkeypatch.setattr(pull_request, limit, 1)
    with pytest.raises(GenrobustError, match=r"2 .* and 1 are allowed"):
        collect(base, head, tmp_path / "data")


@pytest.mark.parametrize(("passes", "code"), [(True, 0), (False, 1)])
def test_each_changed_entry_is_verified_and_the_result_can_be_shown(
    passes: bool, code: int, entries: tuple[Path, Path], tmp_path: Path
) -> None:
    base, head = entries
    (head / "digits-v1" / "old-vae" / "entry.json").write_text("better")
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str], seconds: float) -> tuple[bool, str]:
        commands.append(command)
        return passes, "checked <b>all</b>"

    out = tmp_path / "result" / "result.json"
    given = {"--base": base, "--head": head, "--data": tmp_path / "data", "--out": out}
    options = [str(word) for pair in given.items() for word in pair]
    assert pull_request.main(options, run) == code
    place = str(tmp_path / "data" / "digits-v1" / "old-vae")
    program = [sys.executable, "-I", "-m", "genrobust"]
    assert [list(c) for c in commands] == [[*program, "verify", place, "--depth", "replay"]]
    text = comment_of(out.read_bytes(), COMMIT)
    assert text.startswith(
        f"### Leaderboard: {int(passes)} of 1 verified (replay) at abcdefabcdef\n"
    )
    assert "checked <b>all</b>" in shown(text)


def test_a_refusal_is_a_result_too(entries: tuple[Path, Path], tmp_path: Path) -> None:
    base, head = entries
    (head / "digits-v1" / "old-vae" / "entry.json").unlink()
    given = {"--base": base, "--head": head, "--data": tmp_path / "data", "--out": tmp_path / "out"}
    assert pull_request.main([str(word) for pair in given.items() for word in pair]) == 1
    assert "problems: 1" in comment_of((tmp_path / "out").read_bytes(), COMMIT)


def test_a_verification_that_crashes_hangs_or_prints_anything_fails_alone() -> None:
    def python(code: str, seconds: float = 60) -> tuple[bool, str]:
        return pull_request.run_command([sys.executable, "-c", code], seconds)

    assert python("print('fine')") == (True, "fine\n")
    passed, output = python("import os; print('before', flush=True); os.abort()")
    assert not passed
    assert "before" in output
    assert "ended with code" in output
    assert python("while True: pass", 0.5) == (
        False,
        "the verification did not end within 0.5 seconds",
    )
    assert python(r"import sys; sys.stdout.buffer.write(b'\xff')") == (True, "\ufffd")


@given(st.text(), st.text())
def test_any_result_of_ours_can_be_shown(output: str, problem: str) -> None:
    verified = [Checked("digits-v1/a", False, output)]
    text = comment_of(
        result_of(Changes(("digits-v1/a",), (problem,), ()), verified, "schema"), COMMIT
    )
    assert text.startswith("### Leaderboard: 0 of 1 verified (schema), problems: 1")
