"""Tampering with entries: hashes are made anew each time, and each lie is told by what it is."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evidence_runs import (
    BOARD,
    SAID,
    Forger,
    fell,
    hide,
    plausible,
    reason,
    registered,
    run,
    sha256,
    submitted,
    tiny,
    verified,
)
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.evidence.bundle import (
    EVIDENCE,
    MANIFEST,
    OUTCOMES,
    RECORD,
    SPEC,
    TENSORS,
    Evidence,
    Manifest,
)
from genrobust.evidence.entry import BundledModel, Outcomes, ZooModel
from genrobust.models import GenerativeModel, load_model
from genrobust.models.portable import export_model
from genrobust.models.zoo import zoo_card
from genrobust.records.record import Estimate, Record
from genrobust.runner.execute import silent
from genrobust.runner.prepare import Prepared
from genrobust.site.build import build
from genrobust.verify import verify
from genrobust.verify.reattack import _lowest_radii
from genrobust.verify.replay import Replay, check_attacks, prepared_for

Tamper = Callable[[Forger], Path]


def per_eps(record: Record, e: int, **changed: Any) -> tuple[Any, ...]:
    """The scores at one radius changed."""
    found = list(record.scores.per_eps)
    found[e] = found[e].model_copy(update=changed)
    return tuple(found)


def scores_edited(forger: Forger) -> Path:
    better = Estimate(value=0.99, low=0.98, high=1.0, n=24)
    return forger.scores(
        per_eps=per_eps(forger.evidence.record, 1, robust_accuracy=better)
    ).written()


def interval_edited(forger: Forger) -> Path:
    record = forger.evidence.record
    wide = record.scores.clean_accuracy.model_copy(update={"low": 0.0})
    return forger.scores(clean_accuracy=wide).written()


def score_of_images_edited(forger: Forger) -> Path:
    error = forger.evidence.record.scores.reconstruction_error
    return forger.scores(
        reconstruction_error=error.model_copy(update={"value": error.value / 2})
    ).written()


def nan_scores(forger: Forger) -> Path:
    record = forger.evidence.record
    error = record.scores.reconstruction_error.model_copy(update={"value": float("nan")})
    forger.scores(reconstruction_error=error)
    text = forger.evidence.record.model_dump_json(indent=1)
    return forger._with(
        record_bytes=text.replace('"value": null', '"value": NaN').encode()
    ).written()


def outcomes_edited(forger: Forger) -> Path:
    """Other sources fell, and as many."""
    contents = forger.contents()
    found = Outcomes.model_validate_json(contents[OUTCOMES])
    moved = (*found.ignore_target[1:], found.ignore_target[0])
    assert moved != found.ignore_target
    changed = found.model_copy(update={"ignore_target": moved})
    contents[OUTCOMES] = changed.model_dump_json().encode()
    return forger.written(rehash_manifest(contents))


def rehash_manifest(contents: dict[str, bytes]) -> dict[str, bytes]:
    manifest = Manifest.model_validate_json(contents[MANIFEST])
    files = {name: sha256(content) for name, content in contents.items() if name != MANIFEST}
    changed = manifest.model_copy(update={"files": files})
    return {**contents, MANIFEST: changed.model_dump_json().encode()}


def flags_removed(forger: Forger) -> Path:
    """The gradients vanish for every source, and the record does not say so."""
    return forger.tensors(gradient_norm=torch.zeros(24)).written()


def counts_in_the_record_edited(forger: Forger) -> Path:
    record = forger.evidence.record
    first = record.attacks[0].model_copy(update={"forwards": 2 * record.attacks[0].forwards})
    return forger.record(attacks=(first, *record.attacks[1:])).written()


def counts_contradict_themselves(forger: Forger) -> Path:
    def edit(tensors: dict[str, Tensor]) -> None:
        tensors["tried"][0, 0, 1] += 1

    return forger.edited(edit).scored().written()


def successes_hidden_without_counts(forger: Forger) -> Path:
    evidence = forger.evidence
    return forger._with(tensors=hide(evidence, fell(evidence))).scored().written()


def suite_version_changed(forger: Forger) -> Path:
    suite = forger.evidence.record.suite.model_copy(update={"version": 2})
    written = forger.record(suite=suite, suite_sha256=suite.sha256).shards()
    moved = written.folder.parents[1] / "tiny-v2" / written.folder.name
    moved.parent.mkdir()
    written.folder = written.folder.rename(moved)
    return written.written(suite="tiny-v2")


def suite_edited(forger: Forger) -> Path:
    """An easier suite under the name of the frozen one."""
    suite = forger.evidence.record.suite
    easier = suite.model_copy(update={"attacks": suite.attacks[:1] * 3})
    return forger.record(suite=easier, suite_sha256=easier.sha256).shards().scored().written()


def source_twice(forger: Forger) -> Path:
    suite = forger.evidence.record.suite
    ids = (*suite.sample_ids[:-1], suite.sample_ids[0])
    twice = suite.model_copy(update={"sample_ids": ids})
    changed = {"official": False, "deviations": ("a suite of one's own",)}
    forger.record(suite=twice, suite_sha256=twice.sha256, **changed).shards()
    forger.written()
    return forger.folder / EVIDENCE


def judges_replaced(forger: Forger) -> Path:
    judges = forger.evidence.record.judges
    other = judges[1].model_copy(update={"sha256": "0" * 64})
    return forger.record(judges=(judges[0], other, *judges[2:])).written()


def eligible_edited(forger: Forger) -> Path:
    evidence = forger.evidence
    positions = fell(evidence)[:3]
    tensors = hide(evidence, positions)
    tensors["eligible"][positions] = False
    return forger._with(tensors=tensors).scored().written()


def fell_first(forger: Forger) -> Tensor:
    return fell(forger.evidence)[0]


def unread_sources_hidden(forger: Forger) -> Path:
    """Sources that fall are said to be seen as nothing, so that they need not stand."""
    evidence = forger.evidence
    positions = fell(evidence)[:4]
    tensors = hide(evidence, positions)
    tensors["eligible"][positions] = False
    tensors["input_verdict"][positions] = -1
    forger._with(tensors=tensors)
    tensors = plausible(forger.evidence)
    size = evidence.record.suite.chunk_size
    for shard, part in enumerate(tensors["eligible"].split(size)):
        tensors["tried"][shard, -2] = int(part.sum())
        few = torch.minimum(tensors["succeeded"][shard, -2], tensors["tried"][shard, -2])
        tensors["succeeded"][shard, -2] = few
    return forger._with(tensors=tensors).scored().written()


def outside_the_ball(forger: Forger) -> Path:
    def edit(tensors: dict[str, Tensor]) -> None:
        changed = tensors["ignore.perturbation"][fell_first(forger)]
        changed[changed == -127] = -128
        assert (changed == -128).any()

    return forger.edited(edit).written()


def outside_the_box(forger: Forger) -> Path:
    def edit(tensors: dict[str, Tensor]) -> None:
        tensors["ignore.perturbation"][fell_first(forger), 0, 0] = -127  # where digits are black

    return forger.edited(edit).written()


def repeated(forger: Forger) -> Path:
    def edit(tensors: dict[str, Tensor]) -> None:
        positions = fell(forger.evidence)
        found = tensors["ignore.perturbation"]
        found[positions] = found[positions[:1]].clone()

    return within_the_box(forger.edited(edit)).written()


def within_the_box(forger: Forger) -> Forger:
    """What leaves the box is cut, so that only what the images do is wrong."""
    from genrobust.data import load_images

    suite = forger.evidence.record.suite
    x = load_images(suite.dataset).take(suite.sample_ids)
    steps = torch.tensor([*suite.eps, 1.0]) / 127

    def edit(tensors: dict[str, Tensor]) -> None:
        step = steps[tensors["ignore.radius"]].view(-1, 1, 1, 1)
        found = tensors["ignore.perturbation"].float()
        low, high = (-x / step).ceil(), ((1 - x) / step).floor()
        tensors["ignore.perturbation"] = found.clamp(low, high).to(torch.int8)

    return forger.edited(edit)


def easier_ones(forger: Forger) -> Path:
    """Nothing is done to the images any more, which break nothing."""

    def edit(tensors: dict[str, Tensor]) -> None:
        tensors["target.perturbation"].zero_()

    return forger.edited(edit).written()


def larger_radius_said(forger: Forger) -> Path:
    """Inputs of the small radius are said to be of the large one, where they do not hurt."""
    small, large = forger.evidence.record.suite.eps

    def edit(tensors: dict[str, Tensor]) -> None:
        for goal in ("ignore", "target"):
            at = tensors[f"{goal}.radius"] == 0
            assert at.any()
            found = tensors[f"{goal}.perturbation"][at].float() * small / large
            tensors[f"{goal}.perturbation"][at] = found.trunc().to(torch.int8)
            tensors[f"{goal}.radius"][at] = 1

    forger.edited(edit)
    return forger._with(tensors=plausible(forger.evidence)).scored().written()


def another_fingerprint(forger: Forger) -> Path:
    other = load_model("jointvae").fingerprint()
    model = forger.evidence.record.model.model_copy(update={"fingerprint": other})
    return forger.record(model=model).shards().written()


def another_model(forger: Forger) -> Path:
    forger._with(model=ZooModel(name="vae-wd", dataset="digits"))
    return forger.written(model=ZooModel(name="vae-wd", dataset="digits"))


def other_weights(forger: Forger) -> Path:
    """The right name and fingerprint on weights that are not the ones that were scored."""
    _, files = export_model(load_model("vae-wd"))
    return bundled(forger, files).written(model=forger.evidence.model)


def bundled(forger: Forger, files: dict[str, bytes]) -> Forger:
    """The zoo's model as a bundle, with these files."""
    spec, _ = export_model(load_model("vae"))
    kind = BundledModel(format="safetensors", architecture=spec["architecture"])
    contents = {SPEC: json.dumps(spec).encode(), **files}
    return forger._with(model=kind, model_files=contents)


def pickle_for_weights(forger: Forger) -> Path:
    file = io.BytesIO()
    torch.save(load_model("vae").module.state_dict(), file)
    return bundled(forger, {"weights.safetensors": file.getvalue()}).written(
        model=forger.evidence.model
    )


def parameters_edited(forger: Forger) -> Path:
    model = forger.evidence.record.model.model_copy(update={"parameters": 1000})
    return forger.record(model=model).written()


def another_seed(forger: Forger) -> Path:
    return forger.record(seed=1).shards().written()


def seed_that_is_none(forger: Forger) -> Path:
    return forger.record(seed=-1).shards().written()


def card_of_another(forger: Forger) -> Path:
    """A bundled model under the name of one of the zoo's, whose card it shows."""
    card = zoo_card("vae-wd", "digits")
    assert card is not None
    said = {"reference": "vae-wd", "card": card.model_dump(mode="json")}
    forger.record(model=forger.evidence.record.model.model_copy(update=said))
    _, files = export_model(load_model("vae"))
    return bundled(forger, files).written(model=forger.evidence.model)


def signs_edited(forger: Forger) -> Path:
    return forger.tensors(gradient_norm=2 * forger.evidence.tensors["gradient_norm"]).written()


def evidence_changed_alone(forger: Forger) -> Path:
    forger.tensors(gradient_norm=2 * forger.evidence.tensors["gradient_norm"])
    entry = (forger.folder / "entry.json").read_bytes()
    forger.written()
    (forger.folder / "entry.json").write_bytes(entry)
    return forger.folder


def member_changed_alone(forger: Forger) -> Path:
    contents = forger.contents()
    contents[RECORD] = contents[RECORD].replace(b'"seed": 0', b'"seed": 7')
    return forger.written(contents)


def of_another_run(forger: Forger) -> Path:
    """The record beside the evidence is a better one than that in it."""
    forger.written()
    record = forger.evidence.record
    lower = record.scores.reconstruction_error.model_copy(update={"value": 0.1})
    scores = record.scores.model_copy(update={"reconstruction_error": lower})
    better = record.model_copy(update={"scores": scores})
    (forger.folder / RECORD).write_text(better.model_dump_json())
    return forger.rehashed()


def cut_short(forger: Forger) -> Path:
    path = forger.folder / EVIDENCE
    path.write_bytes(path.read_bytes()[:-1000])
    return forger.rehashed()


def zipped(forger: Forger, name: str, content: bytes) -> Path:
    """The archive with one member more, by another program."""
    with zipfile.ZipFile(forger.folder / EVIDENCE, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, kept in {**forger.contents(), name: content}.items():
            archive.writestr(member, kept)
    return forger.rehashed()


def escaping(forger: Forger) -> Path:
    return zipped(forger, "../../evil.py", b"raise SystemExit")


def bomb(forger: Forger) -> Path:
    return zipped(forger, RECORD, b" " * (8 << 20))


def stray_member(forger: Forger) -> Path:
    return zipped(forger, "setup.py", b"raise SystemExit")


def stray_file(forger: Forger) -> Path:
    (forger.folder / "conftest.py").write_text("raise SystemExit")
    return forger.folder


def sources_missing(forger: Forger) -> Path:
    return forger._with(
        tensors={
            name: tensor[:-1] if tensor.shape[:1] == (24,) else tensor
            for name, tensor in forger.evidence.tensors.items()
        }
    ).written(forger_contents(forger))


def forger_contents(forger: Forger) -> dict[str, bytes]:
    """The members with outcomes that are whole, though the tensors are not."""
    whole = Forger.contents(Forger(forger.folder, forger.folder.parents[1] / "copy"))
    found = forger.contents()
    return rehash_manifest({**whole, TENSORS: found[TENSORS]})


AT_SCHEMA: dict[Tamper, str] = {
    scores_edited: "record.json claims robust accuracy at eps 0.1 0.99",
    interval_edited: r"scores: clean_accuracy is claimed 1 \[0, 1\] and is 1 \[1, 1\]",
    nan_scores: "NaN or infinite",
    outcomes_edited: "not what its perturbations.safetensors says",
    flags_removed: "flags: record.json has no flag; the signs raise the flags 'gradients vanish'",
    counts_in_the_record_edited: "counts: what the shards counted does not add up",
    counts_contradict_themselves: "counts: in shard 0 attacks at eps 0.1 were not tried on what",
    successes_hidden_without_counts: "counts: in shard 0 .* not tried on the sources that stand",
    suite_version_changed: "suite: .* not the frozen tiny v2",
    suite_edited: "suite: .* not the frozen tiny v1",
    source_twice: "sources: the suite names a source twice",
    judges_replaced: "data and judges: the judges that record.json names",
    eligible_edited: "outcomes: 'eligible' is not what the verdicts say",
    evidence_changed_alone: "evidence.zip is not the file that entry.json names by its hash",
    member_changed_alone: "record.json is not the file that its manifest names by hash",
    of_another_run: "record.json is not the one in evidence.zip",
    cut_short: "it is cut short",
    escaping: "leads out of its folder",
    bomb: "holds 'record.json' twice|as a bomb does",
    stray_member: "'setup.py' is none of those that belong in it",
    seed_that_is_none: "shards: seed is -1; give a whole number from 0",
    stray_file: "the folder holds 'conftest.py', which is no part of an entry",
    sources_missing: r"does not fit the 24 sources",
}

AT_REPLAY: dict[Tamper, str] = {
    score_of_images_edited: "scores replayed: reconstruction_error is claimed",
    unread_sources_hidden: "outcomes replayed: 'input_verdict' is not what the model gives at 4",
    outside_the_ball: "perturbations: adversarial inputs for 'untargeted' leave the ball",
    outside_the_box: "perturbations: adversarial inputs for 'untargeted' leave the ball",
    repeated: "outcomes replayed: 'ignore.radius' is not what the model gives",
    easier_ones: "outcomes replayed: 'target.radius' is not what the model gives",
    larger_radius_said: "perturbations: .* fit in a smaller radius than is said",
    another_fingerprint: "model loaded: .*it is another model, or has other weights",
    another_model: "model loaded: .*it is another model, or has other weights",
    other_weights: "model loaded: .*it is another model, or has other weights",
    pickle_for_weights: "model loaded: .*is a pickle",
    card_of_another: "record.json has a card that is not that of a model of the zoo",
    parameters_edited: "the model's parameters is 1000; it is 366805",
    another_seed: "'gradient_cosine' is not what the model gives .* another seed",
    signs_edited: "'gradient_norm' is not what the model gives",
}


@pytest.mark.parametrize("tamper", AT_SCHEMA, ids=lambda tamper: tamper.__name__)
def test_the_schema_depth_tells(tamper: Tamper, forger: Forger) -> None:
    found = verified(tamper(forger), "schema")
    assert_matches(AT_SCHEMA[tamper], reason(found))


@pytest.fixture(scope="module")
def once() -> Callable[..., Prepared]:
    """What replays of the same model, suite and seed are prepared with, for all of them."""
    known: dict[tuple[object, ...], Prepared] = {}

    def prepared(evidence: Evidence, model: GenerativeModel, *where: Any) -> Prepared:
        record = evidence.record
        place = (type(evidence.model), model.fingerprint(), record.suite.sha256, record.seed)
        if place not in known:
            known[place] = prepared_for(evidence, model, *where)
        return known[place]

    return prepared


@pytest.fixture
def _claims_alone(monkeypatch: pytest.MonkeyPatch, once: Callable[..., Prepared]) -> None:
    """Without what a replay looks for in a model whatever its entry says."""
    monkeypatch.setattr("genrobust.verify.replay.prepared_for", once)
    for name in ("_try_batches", "require_general", "check_pictures"):
        monkeypatch.setattr(verify, name, lambda *_: "")
    monkeypatch.setattr(verify._Work, "_measure_code", lambda *_: "")


@pytest.mark.slow
@pytest.mark.usefixtures("_claims_alone")
@pytest.mark.parametrize("tamper", AT_REPLAY, ids=lambda tamper: tamper.__name__)
def test_a_replay_tells(tamper: Tamper, forger: Forger) -> None:
    found = verified(tamper(forger), "replay")
    reached = [check.name for check in found.checks]
    assert "model loaded" in reached, "the forger left a trace that needs no replay"
    assert_matches(AT_REPLAY[tamper], reason(found))


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


def reattacked(path: Path, share: float) -> str:
    """Why a re-attack refuses what a replay does not."""
    found = verified(path, "re-attack", share=share, seed=0)
    failed = {check.name for check in found.checks if not check.passed}
    assert failed <= {"shards again", "fresh attack", "transfers"}, reason(found)
    return reason(found)


def hide_successes(forger: Forger) -> Forger:
    """All that fell is said to stand, with counts that fit."""
    evidence = forger.evidence
    forger._with(tensors=hide(evidence, fell(evidence)))
    return forger._with(tensors=plausible(forger.evidence)).scored()


def on_another_machine(forger: Forger) -> Forger:
    provenance = forger.evidence.record.provenance
    elsewhere = provenance.model_copy(update={"processor": "Another 3000"})
    return forger.record(provenance=elsewhere)


@pytest.mark.slow
def test_hidden_successes_are_found_by_running_a_shard_again(forger: Forger) -> None:
    path = hide_successes(forger).written()
    told = reattacked(path, 0.01)
    assert "run again with the record's seed, gives another" in told


@pytest.mark.slow
def test_hidden_successes_are_found_by_a_fresh_attack_on_another_machine(forger: Forger) -> None:
    path = on_another_machine(hide_successes(forger)).written()
    told = reattacked(path, 0.5)
    assert_matches("fresh attack: at eps .* sources that are claimed to stand were broken", told)


@pytest.mark.slow
def test_hidden_successes_are_found_by_what_broke_others(forger: Forger, tiny_entry: Path) -> None:
    """The honest entry of the same model has the inputs that were left out."""
    honest = Forger(tiny_entry, forger.folder.parents[1] / "kept").folder
    path = on_another_machine(hide_successes(forger)).written()
    honest.rename(path.parent / "honest")
    told = reattacked(path, 0.01)
    assert_matches("transfers: at eps .* sources that are claimed to stand were broken", told)


def test_inputs_of_others_that_leave_the_ball_break_nothing(replayed: Replay) -> None:
    """An entry that nobody verified may not fail the others on its board."""
    given = replayed.evidence.outcome.untargeted
    fell = given.radius < 2
    assert fell.any()
    steps = given.perturbation.clone()
    steps[steps == -127] = -128
    cheated = replace(given, perturbation=steps)
    with registered():
        honest = _lowest_radii(replayed, [given], silent)["untargeted"]
        found = _lowest_radii(replayed, [cheated], silent)["untargeted"]
    left = (steps == -128).flatten(1).any(1)
    assert (fell & left).any()
    assert torch.equal(honest, given.radius)
    assert torch.equal(found, given.radius.masked_fill(left, 2))


def test_settings_that_no_attack_takes_keep_no_attack_from_a_verdict(replayed: Replay) -> None:
    """What attacks by themselves were is their submitter's word; their inputs are the proof."""
    record = replayed.evidence.record
    first, *others = record.suite.attacks
    attacks = (first.model_copy(update={"settings": {"steps": -5}}), *others)
    suite = record.suite.model_copy(update={"attacks": attacks, "ensemble": False})
    said = replace(replayed.evidence, record=record.model_copy(update={"suite": suite}))
    assert (
        check_attacks(replace(replayed, evidence=said)) == "each by itself, as the suite has them"
    )


@pytest.mark.slow
def test_fewer_steps_are_found_by_running_a_shard_again(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was of a weaker suite, and says that it was of the frozen one."""
    weaker = tuple(
        entry.model_copy(update={"settings": {name: 2 for name in entry.settings}})
        for entry in tiny().attacks
    )
    honest, frozen = tiny(), tiny().sha256
    weak = honest.model_copy(update={"attacks": weaker})
    with monkeypatch.context() as patched:
        patched.setattr("evidence_runs.tiny", lambda: weak)
        entry = submitted(tmp_path_factory.mktemp("weak"), run(tmp_path / "run"))
        forger = Forger(entry, tmp_path / "forged")
    path = forger.record(suite=honest, suite_sha256=frozen).shards().scored().written()
    told = reattacked(path, 0.01)
    assert_matches("shards again: shard .* gives another '(tried|succeeded)': .* claimed", told)
    path = on_another_machine(forger).written()
    told = reattacked(path, 0.01)
    assert_matches("shards again: shard .* takes another budget", told)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forwards", "probe.again"])
def test_edited_counts_and_signs_are_found_by_running_a_shard_again(
    name: str, forger: Forger
) -> None:
    def edit(tensors: dict[str, Tensor]) -> None:
        if name == "forwards":
            tensors[name][tensors[name] > 0] += 1
        else:
            tensors[name][:] = tensors["probe.success"]
            tensors[name][1, ::3] ^= True

    path = forger.edited(edit).scored().written()
    told = reattacked(path, 0.01)
    assert f"gives another '{name}'" in told


def test_a_link_is_refused(forger: Forger, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a password")
    (forger.folder / "thumbnails.png").unlink()
    (forger.folder / "thumbnails.png").symlink_to(secret)
    assert "thumbnails.png is a link" in reason(verified(forger.folder, "schema"))


def test_a_slug_that_leads_elsewhere_is_refused(forger: Forger) -> None:
    path = forger.folder / "entry.json"
    path.write_text(path.read_text().replace('"plain-vae"', '"../plain-vae"'))
    assert "slug" in reason(verified(forger.folder, "schema"))


def test_a_script_in_the_name_is_text_on_the_site(forger: Forger, tmp_path: Path) -> None:
    name = "<script>alert(1)</script>"
    path = forger.written(submission=SAID.model_copy(update={"name": name, "note": name}))
    assert verified(path, "schema").passed
    with registered():
        build(path.parents[1], tmp_path / "site")
    pages = [page.read_text() for page in (tmp_path / "site").rglob("*.html")]
    assert any("&lt;script&gt;alert(1)" in page for page in pages)
    assert not any("<script>alert(1)" in page for page in pages)


def test_what_a_bundle_would_run_is_never_run(forger: Forger, tmp_path: Path) -> None:
    """A pickle that writes a file when it is loaded, and does not."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (tmp_path / "ran", "yes"))

    file = io.BytesIO()
    torch.save({"weight": Evil()}, file)
    bundled(forger, {"weights.safetensors": file.getvalue()})
    path = forger.written(model=forger.evidence.model)
    assert not verified(path, "replay").passed
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_an_honest_entry_passes_after_the_same_rewriting(forger: Forger) -> None:
    """The forger's own tools leave no trace: what the tests above find are the lies."""
    forger._with(tensors=plausible(forger.evidence))
    assert verified(forger.scored().written(), "replay").passed


@pytest.mark.slow
def test_a_tampered_run_cannot_be_submitted(tiny_run: Path, tmp_path: Path) -> None:
    forger = Forger.__new__(Forger)
    forger.folder, forger.evidence = tmp_path, _evidence_of(tiny_run)
    path = score_of_images_edited_run(forger, tmp_path / "run")
    with pytest.raises(GenrobustError, match=r"cannot be submitted: scores replayed"):
        submitted(tmp_path / "entries", path)
    assert not (tmp_path / "entries" / BOARD).exists()


def _evidence_of(folder: Path) -> Any:
    from genrobust.evidence.bundle import read_evidence

    return read_evidence(folder / EVIDENCE)


def score_of_images_edited_run(forger: Forger, to: Path) -> Path:
    from genrobust.evidence.archive import write_archive

    error = forger.evidence.record.scores.reconstruction_error
    forger.scores(reconstruction_error=error.model_copy(update={"value": error.value / 2}))
    contents = forger.contents()
    to.mkdir()
    (to / RECORD).write_bytes(contents[RECORD])
    write_archive(to / EVIDENCE, contents)
    return to
