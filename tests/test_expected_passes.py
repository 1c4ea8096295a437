"""What a run is said to take, beside what it takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from genrobust.attacks import make_attack
from genrobust.runner import pulse as pulses
from genrobust.runner.checkpoint import nowhere
from genrobust.runner.options import Options
from genrobust.runner.outlook import tried
from genrobust.runner.prepare import prepare
from genrobust.runner.pulse import Pulse
from genrobust.runner.run import shards_of
from genrobust.runner.shard import run_shard
from genrobust.suites import AttackEntry, Suite, load_suite

#: Inside them every source of the shipped models stands.
NOTHING = (1e-6, 2e-6)
SOURCES = 6


@pytest.fixture(scope="module")
def digits() -> Suite:
    return load_suite("digits-v2").limited(SOURCES).model_copy(update={"eps": NOTHING})


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vae", "jointvae"])
def test_a_source_that_stands_takes_about_the_passes_that_are_foreseen(
    digits: Suite, model: str
) -> None:
    """Less where attacks give up, which they are not expected to. The references are encoded once
    for all sources, so of few sources they count for much."""
    entries = [e.model_copy(update={"settings": _patient(e.settings)}) for e in digits.attacks]
    prepared = prepare(model, digits.model_copy(update={"attacks": tuple(entries)}), Options())
    checkpoint, loaded = nowhere(), prepared.loaded
    watched = replace(loaded.scorer, model=checkpoint.pulse.watched(loaded.scorer.model))
    (spec,) = shards_of(prepared)
    assert run_shard(spec, replace(loaded, scorer=watched), checkpoint=checkpoint) is not None
    assert checkpoint.pulse.spent == pytest.approx(SOURCES * tried(prepared).passes, rel=0.25)


def _patient(settings: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name not in ("patience", "hope")}


def test_neighbours_with_hope_is_expected_to_give_up_after_a_class_more_than_it_must() -> None:
    def expected(**settings: object) -> int:
        return make_attack("neighbours", {"steps": 10, **settings}).expected_passes()

    assert expected() == 9 * (6 + 1 + 10)
    assert expected(hope=0.7) == 9 * (6 + 1) + 3 * 10
    assert expected(hope=0.7, classes=2) == 2 * (6 + 1) + 2 * 10


@pytest.mark.slow
def test_what_descends_is_foreseen_once_and_what_is_not_tried_never(digits: Suite) -> None:
    up = AttackEntry(attack="classifier", goal="untargeted", settings={"steps": 20})
    down = AttackEntry(attack="nearest", goal="untargeted", descends=True)
    switch = AttackEntry(attack="code-switch", goal="untargeted", settings={"steps": 7})

    def passes(model: str, *attacks: AttackEntry) -> int:
        update = {"attacks": attacks, "eps": (0.1, 0.2, 0.3), "ensemble": False}
        return tried(prepare(model, digits.model_copy(update=update), Options())).passes

    alone = passes("vae", up)
    assert passes("vae", up, down) == alone + 3 * 100
    assert passes("vae", up, switch) == alone
    assert passes("jointvae", up, switch) == alone + 3 * (9 * 7)


def test_what_is_ahead_is_taken_for_as_quick_as_what_was() -> None:
    pulse = Pulse(None)
    pulse.begin("a tenth of what is expected", 100, 100)
    pulse.tick(10)
    assert pulse.share == pytest.approx(10 / 201)
    pulse.begin("and so the next", 100, 0)
    assert pulse.share == pytest.approx(10 / 21)
    pulse.last = 10
    assert pulse.share == pytest.approx(10 / 31)


def test_what_is_shown_never_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulses, "EVERY", 0.0)
    pulse, shown = Pulse(tmp_path / "a.pulse"), []
    for behind in (0, 1000, 0):
        pulse.begin("more is found to do", 10, behind)
        pulse.tick(10)
        shown.append(json.loads((tmp_path / "a.pulse").read_text())["share"])
    assert shown == sorted(shown)
    assert 0 < shown[0] == shown[1]
