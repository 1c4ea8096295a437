"""Verification: what passes, what each depth says, and how a command ends."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
import torch
from brief_signs import brief_signs
from evidence_runs import BOARD, Forger, reason, registered, run, submitted, tiny, verified
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from typer.testing import CliRunner

from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.evidence.bundle import EVIDENCE, OUTCOMES, RECORD, read_evidence
from genrobust.evidence.checks import RejectionError, run_checks
from genrobust.evidence.entries import read_entry
from genrobust.evidence.entry import Check, Verification
from genrobust.records.record import Estimate
from genrobust.runner import execute
from genrobust.runner.provenance import processor
from genrobust.verify.claims import _near, highest, lowest
from genrobust.verify.reattack import BOUND, _lower_bound, choose
from genrobust.verify.replay import Replay, check_gains, checks
from genrobust.verify.subject import find_subjects, read_subject
from genrobust.verify.verify import (
    Verified,
    VerifyOptions,
    _others,
    verify,
    write_verification,
)

OWN = """
from pathlib import Path
from genrobust.models.networks import NetworkSpec, initialised

Path(__file__).with_name("imported").touch()

def build():
    return initialised(NetworkSpec(gaussian=3, layers="dense"), seed=1)
"""


@pytest.fixture
def entry(tiny_entry: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, on a board of its own."""
    copy = tmp_path / "entries" / BOARD / tiny_entry.name
    shutil.copytree(tiny_entry, copy)
    return copy


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An entry whose model is elsewhere: its folder, the code and the weights."""
    home = tmp_path_factory.mktemp("external")
    code, weights = home / "own.py", home / "weights.pt"
    code.write_text(OWN)
    from genrobust.models.networks import NetworkSpec, initialised

    torch.save(initialised(NetworkSpec(gaussian=3, layers="dense"), seed=2).state_dict(), weights)
    reference = f"{code}:build"
    folder = run(home / "run", reference, weights=weights, evidence=False)
    how = {"source": "https://example.org/weights.pt", "weights": weights}
    entry = submitted(home / "entries", folder, "Other's VAE", **how)
    (home / "imported").unlink()
    return entry, code, weights


def cli(*words: str | Path) -> tuple[int, str]:
    with registered():
        ended = CliRunner().invoke(app, ["verify", *map(str, words), "--workers", "1"])
    return ended.exit_code, " ".join(ended.output.split())


def test_an_honest_entry_passes_and_says_what_that_proves(entry: Path) -> None:
    code, output = cli(entry)
    assert code == 0, output
    assert "schema proves that the files are whole and agree with each other; not" in output
    assert "replay proves that the stored adversarial inputs are inside the threat model" in output
    assert "re-attack proves" not in output
    assert "61 scores with their intervals are equal to 1e-6" in output


@pytest.mark.slow
def test_a_re_attack_passes_on_an_honest_entry(entry: Path) -> None:
    found = verified(entry, "re-attack", share=0.01, seed=3)
    assert found.passed, reason(found)
    names = [check.name for check in found.checks]
    assert names[-3:] == ["shards again", "fresh attack", "transfers"]
    assert "with seed 3 and twice the budget" in found.checks[-2].detail


@pytest.mark.slow
def test_the_first_failure_ends_the_command_with_1(entry: Path) -> None:
    forger = Forger(entry, entry.parents[2] / "forged")
    path = forger.tensors(gradient_norm=2 * forger.evidence.tensors["gradient_norm"]).written()
    code, output = cli(path)
    assert code == 1
    assert "FAILED: 'gradient_norm' is not what the model gives" in output
    assert read_entry(path).state == "failed"


def test_what_cannot_be_told_ends_the_command_with_2(tmp_path: Path, entry: Path) -> None:
    assert cli(tmp_path / "nowhere")[0] == 2
    (tmp_path / "empty").mkdir()
    code, output = cli(tmp_path / "empty")
    assert (code, "there is nothing to verify" in output) == (2, True)
    run = tmp_path / "runs" / "digits-v2" / "vae"
    run.mkdir(parents=True)
    (run / RECORD).write_bytes((entry / RECORD).read_bytes())
    code, output = cli(run)
    assert (code, "vae/evidence.zip', by which others" in output) == (2, True)
    assert "type the run's command again with --evidence" in output
    code, output = cli(tmp_path / "runs")
    assert (code, f"holds runs; name the folder of one, such as '{run}'" in output) == (2, True)
    code, output = cli(entry / RECORD)
    assert (code, "record.json' is no archive of evidence; name" in output) == (2, True)
    code, output = cli(entry, "--depth", "replya")
    assert (code, "did you mean 'replay'" in output) == (2, True)
    code, output = cli(entry, "--share", "0")
    assert (code, "--share is 0.0" in output) == (2, True)


def test_a_damaged_archive_is_a_verdict_and_no_mistake(tmp_path: Path, entry: Path) -> None:
    cut = tmp_path / "cut.zip"
    cut.write_bytes((entry / EVIDENCE).read_bytes()[:-9])
    code, output = cli(cut)
    assert (code, "it is cut short" in output) == (1, True)
    (entry / EVIDENCE).write_text("no archive, in an entry")
    assert cli(entry)[0] == 1


@pytest.mark.slow
def test_evidence_by_itself_is_verified_where_a_run_left_it(tiny_run: Path) -> None:
    before = set(tiny_run.iterdir())
    code, output = cli(tiny_run)
    assert code == 0, output
    assert set(tiny_run.iterdir()) == before
    assert cli(tiny_run / EVIDENCE, "--depth", "schema")[0] == 0


def test_a_verdict_that_cannot_be_kept_is_one(entry: Path) -> None:
    """As in a clone that is read-only, which is read all the same."""
    (entry / "verification.json").unlink()
    (entry / "verification.json").mkdir()  # which keeps root from writing there too
    code, output = cli(entry, "--depth", "schema")
    assert (code, "passed, as deep as schema" in output) == (0, True), output
    assert "verification.json' (Is a directory), so that no badge is kept there; --json" in output
    (entry / OUTCOMES).write_text("{}")
    code, output = cli(entry, "--depth", "schema")
    assert (code, "FAILED:" in output) == (1, True), output
    assert "no badge is kept there" in output


@pytest.mark.parametrize(
    ("day", "code", "words"),
    [
        ("1970-01-01", 2, "the clock of this machine says that it is 1970-01-01"),
        ("2024-12-31", 2, "set it, as what is verified is dated"),
        ("2025-01-01", 1, "is a day to come, which cannot be: here it is 2025-01-01"),
    ],
)
def test_a_clock_that_was_never_set_gives_no_verdict(
    entry: Path, monkeypatch: pytest.MonkeyPatch, day: str, code: int, words: str
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls.fromisoformat(day).replace(tzinfo=tz)

    for module in ("verify.verify", "verify.consistency", "evidence.entry"):
        monkeypatch.setattr(f"genrobust.{module}.datetime", Clock)
    kept = (entry / "verification.json").read_bytes()
    ended, output = cli(entry, "--depth", "schema")
    assert (ended, words in output) == (code, True), output
    assert ((entry / "verification.json").read_bytes() == kept) == (code == 2)


def test_a_folder_of_entries_is_verified_one_by_one(entry: Path, tmp_path: Path) -> None:
    broken = entry.with_name("broken")
    shutil.copytree(entry, broken)
    (broken / OUTCOMES).write_text("{}")
    out = tmp_path / "results.json"
    code, output = cli(entry.parents[1], "--depth", "schema", "--json", out)
    assert code == 1
    assert "1 passed, 1 failed, 0 not verified" in output
    results = json.loads(out.read_text())
    assert {Path(path).name: one["passed"] for path, one in results.items()} == {
        "broken": False,
        entry.name: True,
    }
    assert Verification.model_validate(results[str(entry)]).depth == "schema"


@pytest.mark.slow
def test_a_model_that_is_elsewhere_must_be_given(external: tuple[Path, Path, Path]) -> None:
    entry, code, weights = external
    ended, output = cli(entry)
    assert ended == 2
    assert "its weights: https://example.org/weights.pt" in output
    assert "--trust-code" in output
    assert cli(entry, "--depth", "schema")[0] == 0
    ended, output = cli(entry, "--model", f"{code}:build", "--weights", weights)
    assert (ended, "add --trust-code" in output) == (2, True)
    assert not (code.parent / "imported").exists(), "code was run without trust"


@pytest.mark.slow
def test_other_weights_than_the_published_are_refused(
    external: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    entry, code, _ = external
    from genrobust.models.networks import NetworkSpec, initialised

    other = tmp_path / "other.pt"
    torch.save(initialised(NetworkSpec(gaussian=3, layers="dense"), seed=5).state_dict(), other)
    model = ("--model", f"{code}:build", "--weights", other, "--trust-code")
    ended, output = cli(entry, *model)
    assert (ended, "--weights the file from https://example.org" in output) == (2, True)
    assert read_entry(entry).state == "replay"


def test_a_fingerprint_that_the_published_weights_do_not_have_is_the_entrys_fault(
    external: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    entry, code, weights = external
    forger = Forger(entry, tmp_path)
    model = forger.evidence.record.model.model_copy(update={"fingerprint": "0" * 64})
    path = forger.record(model=model).shards().written()
    given = ("--model", f"{code}:build", "--weights", weights, "--trust-code")
    ended, output = cli(path, *given)
    assert ended == 1
    assert "it is another model, or has other weights" in output


@pytest.mark.slow
def test_entries_that_cannot_be_told_do_not_count_as_failed(
    external: tuple[Path, Path, Path], entry: Path
) -> None:
    shutil.copytree(external[0], entry.with_name(external[0].name))
    code, output = cli(entry.parents[1])
    assert code == 2
    assert "1 passed, 0 failed, 1 not verified" in output
    model = ("--model", f"{external[1]}:build", "--weights", external[2], "--trust-code")
    code, output = cli(entry.parents[1], *model)
    assert code == 0, output  # what is in the evidence needs no model of the user's
    assert external[1].with_name("imported").exists()


def refused(found: Replay) -> str:
    return " ".join(check.detail for check in run_checks(checks(found)) if not check.passed)


@pytest.mark.slow
def test_on_another_machine_scores_may_move_within_their_intervals(
    entry: Path, replayed: Replay
) -> None:
    forger = Forger(entry, entry.parents[2] / "forged")
    error = forger.evidence.record.scores.reconstruction_error
    moved = error.model_copy(update={"value": (error.value + error.high) / 2})
    forger.scores(reconstruction_error=moved)
    here = replace(replayed, evidence=forger.evidence)
    assert "reconstruction_error is claimed" in refused(here)
    provenance = forger.evidence.record.provenance
    packages = {**provenance.packages, "torch": "1.0"}
    elsewhere = provenance.model_copy(update={"processor": "Another", "packages": packages})
    forger.record(provenance=elsewhere)
    with registered():
        done = verify(forger.written(), VerifyOptions(workers=1))
    assert done.replay is not None
    found = done.verification
    assert found.passed, reason(found)
    details = " ".join(check.detail for check in found.checks)
    assert "processor Another there" in details
    assert "torch 1.0 there" in details
    beyond = error.model_copy(update={"value": error.value / 3, "low": error.value / 4})
    forger.scores(reconstruction_error=beyond.model_copy(update={"high": error.value / 2}))
    there = replace(done.replay, evidence=forger.evidence)
    assert "reconstruction_error is claimed" in refused(there)


def test_one_name_of_several_generations_is_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(generation: int) -> str:
        told = f"processor\t: 0\ncpu family\t: 25\nmodel\t\t: {generation}\nmodel name\t: EPYC\n"
        monkeypatch.setattr(Path, "read_text", lambda _: told + "\nprocessor\t: 1\n")
        return processor()

    monkeypatch.setattr(sys, "platform", "linux")
    assert called(1) != called(17)
    assert called(1).startswith("EPYC, family 25, model 1, ")
    assert called(1).endswith(torch.backends.cpu.get_cpu_capability())


@pytest.mark.slow
def test_what_takes_long_is_told_while_it_runs(
    entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "LOOK", 0.01)
    told: list[tuple[float, str]] = []

    def listen(done: float, total: int, note: str = "") -> None:
        told.append((done, note))

    with registered():
        options = VerifyOptions(workers=1, depth="re-attack", share=0.01)
        verify(entry, options, on_progress=listen)
    parts = {note for done, note in told if done % 1}
    assert "the run's images again, and its signs" in parts
    assert "looks at gradients, for the flags" in parts


@pytest.mark.parametrize(
    ("estimate", "ends"),
    [
        (Estimate(value=0.5, low=0.4, high=0.6, n=100), (0.4, 0.6)),
        (Estimate(value=0.0, low=0.0, high=0.0, n=100), (-0.03, 0.03)),
    ],
)
def test_an_interval_without_width_has_that_of_the_rule_of_three(
    estimate: Estimate, ends: tuple[float, float]
) -> None:
    assert (lowest(estimate), highest(estimate)) == pytest.approx(ends)


WIDE = Estimate(value=0.5, low=0.4, high=0.6, n=200)
FLAT = Estimate(value=0.0, low=0.0, high=0.0, n=200)


@pytest.mark.parametrize(
    ("found", "changes", "near"),
    [
        (WIDE, {"value": 0.6}, True),
        (WIDE, {"value": 0.4}, True),
        (WIDE, {"value": 0.601}, False),
        (WIDE, {"value": 0.399}, False),
        # Ends may be off by a quarter of the recomputed width, here 0.05, to either side.
        (WIDE, {"low": 0.351, "high": 0.649}, True),
        (WIDE, {"low": 0.449, "high": 0.551}, True),
        *((WIDE, {"low": low}, False) for low in (0.349, 0.451)),
        *((WIDE, {"high": high}, False) for high in (0.549, 0.651)),
        *((WIDE, {"n": n}, True) for n in (198, 202)),
        *((WIDE, {"n": n}, False) for n in (197, 203)),
        # Without a width it is that of the rule of three: 0.03, from end to end.
        (FLAT, {"value": 0.0149, "high": 0.0074}, True),
        (FLAT, {"value": 0.0151}, False),
        (FLAT, {"high": 0.0076}, False),
    ],
)
def test_a_claim_from_another_machine_is_judged_by_the_recomputed_interval(
    found: Estimate, changes: dict[str, float], near: bool
) -> None:
    assert _near(found.model_copy(update=changes), found) == near


@pytest.mark.parametrize(
    ("claimed", "found", "near"),
    [
        *((1.0, 1.049, True), (1.049, 1.0, True), (1.0, 1.06, False), (1.06, 1.0, False)),
        # Most are far below 1, as the mean size of changes is.
        *((0.06, 0.058, True), (0.06, 0.02, False), (0.0, 0.0009, True), (0.0, 0.0011, False)),
        *((None, None, True), (None, 1.0, False), (1.0, None, False)),
    ],
)
def test_means_without_an_interval_differ_by_a_twentieth_at_most(
    claimed: float | None, found: float | None, near: bool
) -> None:
    assert _near(claimed, found) == near


@given(st.integers(1, 60), st.data())
def test_the_lower_bound_of_a_share_is_that_of_clopper_and_pearson(
    tried: int, data: st.DataObject
) -> None:
    """At the bound, as many or more would be broken with the probability that is left."""
    broken = data.draw(st.integers(0, tried))
    bound = _lower_bound(broken, tried)
    if broken == 0:
        assert bound == 0
        return
    assert 0 < bound < broken / tried or bound == pytest.approx((1 - BOUND) ** (1 / tried))
    assert binom.sf(broken - 1, tried, bound) == pytest.approx(1 - BOUND, rel=1e-6)


def test_what_is_attacked_again_follows_from_the_seed_alone(tiny_run: Path) -> None:
    evidence = read_evidence(tiny_run / EVIDENCE)
    first = choose(evidence, 0.25, seed=1)
    assert first == choose(evidence, 0.25, seed=1)
    assert len({choose(evidence, 0.25, seed=seed).sources for seed in range(20)}) > 15
    assert {choose(evidence, 0.01, seed=seed).shards for seed in range(20)} == {(0,), (1,)}
    stands = evidence.tensors["eligible"] & (evidence.tensors["ignore.radius"] > 0)
    assert all(stands[list(first.sources)])
    assert len(choose(evidence, 1.0, seed=0).sources) == int(stands.sum())
    assert len(choose(evidence, 0.01, seed=0).sources) == 1, "of a small suite too one is tried"


def test_a_verification_is_kept_with_the_files_it_is_of(entry: Path) -> None:
    found = read_entry(entry)
    assert found.state == "replay"
    assert found.verification is not None
    assert found.verification.passed
    said = json.loads((entry / "entry.json").read_text())
    said["submission"]["note"] = "changed afterwards"
    (entry / "entry.json").write_text(json.dumps(said))
    assert read_entry(entry).state == "unverified"


def test_a_shallower_pass_leaves_a_deeper_one_and_a_failure_does_not(entry: Path) -> None:
    with registered():
        shallow = verify(entry, VerifyOptions("schema"))
    write_verification(shallow, entry)
    assert read_entry(entry).state == "replay"
    wrong = Check(name="scores", passed=False, detail="made up")
    failed = shallow.verification.model_copy(update={"passed": False, "checks": (wrong,)})
    write_verification(Verified(failed, shallow.subject, None), entry)
    assert read_entry(entry).state == "failed"


@pytest.mark.slow
def test_a_run_of_ones_own_protocol_is_verified_and_said_not_to_be_official(
    tmp_path: Path,
) -> None:
    folder = run(tmp_path / "run", limit=4, attacks=("noise",))
    found = verified(folder / EVIDENCE)
    assert found.passed, reason(found)
    assert "not official" in found.checks[1].detail


def test_an_unknown_suite_in_evidence_is_no_reason_to_crash(tiny_run: Path, entry: Path) -> None:
    """Outside the block that registers it, nobody knows the suite: it cannot be told."""
    with pytest.raises(GenrobustError, match="no such suite is registered"):
        verify(tiny_run / EVIDENCE, VerifyOptions("schema"))


def test_images_that_the_data_set_does_not_have_are_refused(
    tiny_run: Path, tmp_path: Path, tiny_entry: Path
) -> None:
    forger = Forger(tiny_entry, tmp_path)
    suite = tiny().model_copy(update={"sample_ids": (*tiny().sample_ids[:-1], 10**6)})
    changed = {"official": False, "deviations": ("a suite of one's own",)}
    forger.record(suite=suite, suite_sha256=suite.sha256, **changed).shards().written()
    assert "images that 'digits' does not have" in reason(verified(forger.folder / EVIDENCE))


def test_data_that_are_not_there_are_the_users_trouble(
    entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*given: object) -> None:
        raise GenrobustError("the data set is not there")

    monkeypatch.setattr("genrobust.verify.verify.load_images", missing)
    with pytest.raises(GenrobustError, match="is not there"):
        verified(entry)
    assert verified(entry, "schema").passed


def test_subjects_are_found_below_a_folder(entry: Path, tmp_path: Path) -> None:
    hidden = entry.parents[1] / ".submit-x" / BOARD / "half"
    hidden.mkdir(parents=True)
    (hidden / "entry.json").write_text("{}")
    assert find_subjects(entry.parents[1]) == [entry]
    assert find_subjects(entry) == [entry]
    assert find_subjects(entry / EVIDENCE) == [entry / EVIDENCE]


def test_what_broke_others_is_tried_and_what_was_submitted_on_the_model_is_not(
    entry: Path,
) -> None:
    """An attack on it lowers its best-known score, and does not make its own run wrong."""
    other = entry.with_name("other")
    for folder in (entry / "attacks" / "mine", other, other / "attacks" / "theirs"):
        shutil.copytree(entry, folder, ignore=shutil.ignore_patterns("attacks"))
    with registered():
        subject = read_subject(entry)
    assert _others(subject) == [other, other / "attacks" / "theirs"]


def test_what_an_attack_lowers_comes_out_on_any_machine(replayed: Replay) -> None:
    """Boards take the worst case over all attacks, to which each could add a source unseen."""
    found = replace(replayed, elsewhere="processor Another 3000 there")
    own = found.evidence.outcomes.worst
    none = torch.full_like(own.untargeted, len(tiny().eps))
    stood = replace(own, untargeted=none, targeted=none)
    assert check_gains(found, own).startswith("0 outcomes")
    assert check_gains(found, stood)
    assert (own.untargeted == 1).any()
    radius = own.untargeted.where(own.untargeted != 1, own.untargeted - 1)
    tensors = {**found.evidence.tensors, "ignore.radius": radius}
    claimed = replace(found, evidence=replace(found.evidence, tensors=tensors))
    with pytest.raises(RejectionError, match="said to break before the entry's own run did stand"):
        check_gains(claimed, own)


@pytest.mark.slow
def test_a_thousand_mnist_images_are_replayed(mnist_root: Path, tmp_path: Path) -> None:
    """A run of the frozen suite with one weak attack: everything is scored, little is searched."""
    from genrobust.evidence.bundle import write_evidence
    from genrobust.runner.options import Options
    from genrobust.runner.prepare import prepare
    from genrobust.runner.run import execute
    from genrobust.suites import load_suite

    options = Options(attacks=("noise",), data_root=mnist_root)
    with brief_signs():
        prepared = prepare("vae", load_suite("mnist"), options)
        execute(prepared, tmp_path)
        write_evidence(tmp_path, prepared.loaded.scorer.model)
        found = verify(tmp_path / EVIDENCE, VerifyOptions(data_root=str(mnist_root))).verification
    assert found.passed, reason(found)
