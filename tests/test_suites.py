"""Suites are frozen data: what is in the files is what their makers give, and it is sound."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import genrobust
from genrobust.attacks.base import LABELLED, make_attack
from genrobust.data import load_images
from genrobust.errors import GenrobustError
from genrobust.runner.options import Options
from genrobust.runner.provenance import command
from genrobust.suites import Suite, load_suite, make
from genrobust.suites.suite import registered_as, spelled_out


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("digits-v1", "8478d6d109e207fddbb7cf7066758fd313dad23912c4d9ad5c5a5076846eb10f"),
        ("mnist-v1", "df18efe6fcfe032a93c1ab171e124fc35dc3452eba6b9b587a0c0c912f6b83b7"),
        ("digits-v2", "e4e03afedaa9da299e5949704386b501d61b0bde28c2ef55ab82d015197409e5"),
        ("mnist-v2", "4269c3f2e70c79b127b9b46a4980a9c5a34545ea817120de775cea6d2fb2f681"),
    ],
)
def test_a_version_stays_what_it_was(name: str, sha256: str) -> None:
    suite = load_suite(name)
    assert (f"{suite.name}-v{suite.version}", suite.sha256) == (name, sha256)


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_a_name_without_a_version_is_that_of_the_newest(name: str) -> None:
    assert load_suite(name) == load_suite(f"{name}-v2")
    assert load_suite(name).version == 2


@pytest.mark.parametrize("name", ["digits-v1", "digits-v2", "mnist-v1", "mnist-v2"])
def test_what_a_record_names_is_its_version(name: str) -> None:
    suite = load_suite(name)
    assert registered_as(suite) == name
    assert command("vae", suite, Options()).endswith(f"--suite {name} --seed 0")
    kept = f"genrobust bench --model {suite.name} --suite {suite.name} --seed 3"
    told = f"genrobust bench --model {suite.name} --suite {name} --seed 3"
    assert spelled_out(kept, suite) == told
    assert spelled_out(told, suite) == told


def test_the_digits_file_is_what_its_maker_gives() -> None:
    assert load_suite("digits-v2") == make.digits()


def test_the_mnist_file_is_what_its_maker_gives(mnist_root: Path) -> None:
    assert load_suite("mnist-v2") == make.mnist(str(mnist_root))


def test_version_2_has_the_same_sources_targets_and_scorers() -> None:
    old, new = load_suite("digits-v1"), load_suite("digits-v2")
    changed = {"version", "attacks", "attacker_judge"}
    assert {k for k, v in old.model_dump().items() if v != new.model_dump()[k]} == changed


def test_digits_has_every_ordered_pair_of_classes_equally_often() -> None:
    suite, images = load_suite("digits"), load_images("digits")
    source, target = images.labels[list(suite.sample_ids)], images.labels[list(suite.target_ids)]
    assert not (source == target).any()
    assert (10 * source + target).bincount(minlength=100).unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"eps": [0.2, 0.1]}, "ascending"),
        ({"target_ids": [1]}, "one length"),
        ({"attacks": []}, "at least 1"),
        ({"colour": "red"}, "unknown key .colour.; known: attacker_judge, attacks"),
        ({"norm": "l7"}, "norm"),
    ],
)
def test_a_file_that_is_no_suite_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({**json.loads(load_suite("digits").model_dump_json()), **change}))
    with pytest.raises(GenrobustError, match=message):
        load_suite(str(path))


def test_a_suite_survives_its_file(tmp_path: Path) -> None:
    suite = load_suite("digits")
    path = tmp_path / "copy.json"
    path.write_text(suite.model_dump_json())
    assert load_suite(str(path)) == suite
    assert load_suite(str(path)).sha256 == suite.sha256


def test_every_change_is_another_protocol() -> None:
    suite = load_suite("digits")
    changed = [suite.limited(5), suite.with_eps([0.1]), suite.with_attacks(["noise"])]
    assert len({suite.sha256, *(s.sha256 for s in changed)}) == 4


def test_unknown_suite_and_missing_file_name_what_to_do() -> None:
    with pytest.raises(GenrobustError, match="did you mean 'digits'"):
        load_suite("digit")
    with pytest.raises(GenrobustError, match="check the path"):
        load_suite("nowhere.json")


def test_a_limit_below_one_is_refused() -> None:
    suite: Suite = load_suite("digits")
    with pytest.raises(GenrobustError, match="1 or more"):
        suite.limited(0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attacks": ()}, "attacks: .*at least 1 item"),
        ({"eps": (0.1, 0.05)}, "eps|radii"),
        ({"confidence": 2.0}, "confidence: "),
    ],
)
@pytest.mark.parametrize("run", [genrobust.bench, genrobust.minimum_norm])
def test_a_copy_with_changes_is_checked_before_it_is_run(
    run: Callable[..., Any], change: dict[str, Any], said: str
) -> None:
    """Without an attack all of its sources would stand."""
    suite = load_suite("digits").limited(2).model_copy(update=change)
    with pytest.raises(GenrobustError, match=rf"^the suite 'digits' is none: .*({said})"):
        run("vae", suite)


def test_of_the_ensemble_what_goes_by_references_goes_by_labels_too() -> None:
    """A suite without labels need not ask for references: what is left of it has none."""
    for entry in make.standard():
        needs = {*make_attack(entry.attack, entry.settings).needs(entry.goal)}
        assert "references" not in needs or LABELLED & needs
