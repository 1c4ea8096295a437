"""Planted masks: the ensemble breaks what is declared, and a flag is raised where it is hidden."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache

import pytest
import torch
from brief_signs import brief_signs
from diagnosed import before_attacks
from principal import smooth
from torch import Tensor

import genrobust
from genrobust.batch import Batch
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models import GenerativeModel
from genrobust.models.families import FAMILIES
from genrobust.outcomes import flags
from genrobust.outcomes.outcome import Counts
from genrobust.records.record import Record
from genrobust.runner.signs import diagnose
from genrobust.suites import Suite, load_suite
from genrobust.suites.suite import entries_of
from genrobust.testing.masks import CLASSIC, Mask, rounded

COUNT = 24
BY_NAME = {mask.name: mask for mask in CLASSIC}

#: What the signs that need no attack say of a mask that nobody declared. The other three masks
#: let gradients pass that lead attacks to the same images.
TOLD = {
    "quantised input": {"gradients vanish"},
    "quantised output": {"gradients vanish"},
    "through numpy": {"gradients vanish"},
    "shattered gradient": {"gradients are random", "gradients mislead"},
    "rippled gradient": {"gradients mislead"},
    "stairs of random slopes": {"gradients mislead"},
    "another gradient": {"gradients mislead"},
}
HARMLESS = {"saturated output", "noisy input", "drawn code"}


@cache
def zoo(name: str) -> GenerativeModel:
    return genrobust.load_model(name)


@cache
def masked(name: str, way: str) -> GenerativeModel:
    """The VAE with a mask that is ``declared`` or ``hidden``."""
    model: GenerativeModel = getattr(BY_NAME[name], way)(zoo("vae"))
    return model


@cache
def quickly(name: str, way: str) -> GenerativeModel:
    """Likewise a model that takes a small part of the time."""
    model: GenerativeModel = getattr(BY_NAME[name], way)(smooth())
    return model


def digits(count: int) -> Batch:
    images = genrobust.load_images("digits")
    ids = load_suite("digits").sample_ids[:count]
    judge = genrobust.load_judge("digits", "lenet")
    return Batch(images.take(ids), ids, 0, images.labels_of(ids), judge=judge)


def borrowed(own: str, other: str) -> GenerativeModel:
    """A model that shows attacks the gradients of another."""
    model, stand_in = zoo(own), zoo(other)
    return genrobust.wrap(
        model.module,
        encode=stand_in.encode,
        decode=stand_in.decode,
        deploy=model.reconstruct,
        input_shape=model.input_shape,
    )


def signs(model: GenerativeModel, eps: tuple[float, ...] = (), count: int = 5) -> set[str]:
    """The flags that the probes raise: with radii short attacks too, without only still signs."""
    batch = digits(count)
    eligible = batch.judge.labels(model.reconstruct(batch.x)) == batch.labels
    found = before_attacks(diagnose(model, batch, eligible, "linf", eps))
    suite = load_suite("digits").model_copy(update={"eps": eps, "attacks": ()})
    counts = Counts(*torch.zeros(4, 2, len(eps), dtype=torch.int64))
    raised = {flag.name for flag in flags.raised(suite, eligible, found, counts)}
    return raised - {"few eligible sources"}


def test_every_mask_is_one_that_is_told_or_harmless() -> None:
    assert TOLD.keys() | HARMLESS == BY_NAME.keys()
    assert not TOLD.keys() & HARMLESS


@pytest.mark.parametrize("name", [*BY_NAME])
def test_a_mask_hardly_changes_what_a_model_gives(name: str) -> None:
    batch = digits(COUNT)
    declared, hidden = quickly(name, "declared"), quickly(name, "hidden")
    judge, clean = batch.judge, smooth().reconstruct(batch.x)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shown = declared.reconstruct(batch.x)
        torch.manual_seed(0)
        torch.testing.assert_close(hidden.reconstruct(batch.x), shown)
    agree = (judge.labels(shown) == judge.labels(clean)).float().mean()
    assert agree > 0.9
    assert declared.draws == hidden.draws == BY_NAME[name].draws


@pytest.mark.parametrize("name", TOLD)
def test_a_hidden_mask_is_told_by_its_signs(name: str) -> None:
    assert signs(quickly(name, "hidden")) >= TOLD[name]


@pytest.mark.parametrize("name", [*BY_NAME])
def test_a_declared_mask_has_no_sign(name: str) -> None:
    assert signs(quickly(name, "declared")) == set()


@pytest.mark.parametrize("name", FAMILIES)
def test_an_honest_model_has_no_sign(name: str) -> None:
    assert signs(zoo(name), eps=(0.06,)) == set()


def test_the_gradients_of_another_model_are_told() -> None:
    model = borrowed("jointvae", "betavae")
    assert "surrogate and deployed path disagree" in signs(model, eps=(0.06,))


@pytest.mark.parametrize("name", [n for n in TOLD if not BY_NAME[n].differentiable])
def test_a_mask_without_gradients_has_to_be_said(name: str) -> None:
    mask = BY_NAME[name]
    silent = Mask(mask.name, mask.see, mask.code, mask.show)
    with pytest.raises(GenrobustError, match="no gradient reaches the image"):
        silent.hidden(smooth())


@pytest.mark.parametrize("name", ["noisy input", "drawn code"])
def test_a_random_mask_has_to_be_said(name: str) -> None:
    mask = BY_NAME[name]
    for way in ("declared", "hidden"):
        with pytest.raises(GenrobustError, match="draws=16"):
            getattr(Mask(mask.name, mask.see, mask.code), way)(smooth())


@pytest.mark.parametrize("name", [*BY_NAME])
def test_a_short_attack_breaks_a_declared_mask_as_the_model_without(name: str) -> None:
    assert fooled(smooth()) == 8
    assert fooled(quickly(name, "declared")) >= 7


@cache
def fooled(model: GenerativeModel) -> int:
    """How many of 8 sources a short attack turns into another class."""
    batch = digits(8)
    found = genrobust.attack(
        "classifier", model, batch.x, labels=batch.labels, judge=batch.judge, eps=0.3, steps=20
    )
    return int(found.success.sum())


def test_rounding_to_levels() -> None:
    image = torch.linspace(0, 1, 1001)
    levels: Tensor = rounded(8)(image).unique()
    torch.testing.assert_close(levels, torch.arange(8) / 7)


# The whole ensemble


def bench(
    model: GenerativeModel, limit: int = COUNT, *, in_full: bool = False, brief: bool = True
) -> Record:
    """The untargeted attacks of the suite, or of ``standard`` with all its steps.

    With brief signs the short attacks, which count too, hardly find anything.
    """
    suite: Suite = load_suite("digits-v1")
    attacks = tuple(entry for entry in suite.attacks if entry.goal == "untargeted")
    if in_full:
        attacks = entries_of("standard", "untargeted")
    chosen = suite.model_copy(update={"attacks": attacks, "eps": (0.06,)})
    with brief_signs() if brief else nullcontext():
        return genrobust.bench(model, chosen, limit=limit)


def flags_of(model: GenerativeModel, limit: int = 8) -> set[str]:
    """Those of a bench; what tells of masks is looked for whatever the attacks are."""
    suite = load_suite("digits-v1").with_attacks(["noise"]).with_eps([0.06])
    return names_of_flags(genrobust.bench(model, suite, limit=limit))


@pytest.fixture(scope="module")
def plain() -> dict[str, Record]:
    return {name: bench(zoo(name)) for name in ("vae", "jointvae")}


def excess(record: Record, plain: Record) -> float:
    """By how many points the masked model looks better; of so many sources one is four points."""
    pairs = zip(record.scores.per_eps, plain.scores.per_eps, strict=True)
    return max(100 * (a.robust_accuracy.value - b.robust_accuracy.value) for a, b in pairs)


def names_of_flags(record: Record) -> set[str]:
    return {flag.name for flag in record.flags}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae", "jointvae"])
def test_no_flag_without_a_mask(name: str) -> None:
    assert flags_of(zoo(name), COUNT) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD)
def test_a_mask_that_nobody_declared_is_flagged(name: str) -> None:
    assert flags_of(masked(name, "hidden")) >= TOLD[name]


DECLARED = [(name, "declared") for name in BY_NAME if name != "saturated output"]
BROKEN = [*DECLARED, *((name, "hidden") for name in HARMLESS if name != "saturated output")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "way"), sorted(BROKEN))
def test_a_mask_that_is_declared_or_harmless_is_broken(
    name: str, way: str, plain: dict[str, Record]
) -> None:
    assert excess(bench(masked(name, way)), plain["vae"]) <= 5
    assert flags_of(masked(name, way), COUNT) == set()


@pytest.mark.slow
def test_a_saturated_output_that_nobody_declared_is_broken() -> None:
    """Black and white digits are farther from grey ones than one grey picture for all."""
    with pytest.warns(GenrobustWarning, match="may be misread"):  # by what it wraps
        record = bench(masked("saturated output", "hidden"), 45, brief=False)
    assert excess(record, bench(zoo("vae"), 45, brief=False)) <= 5
    assert names_of_flags(record) == {"does not reconstruct"}


@pytest.mark.slow
def test_a_saturated_output_that_is_declared_is_broken_by_the_whole_ensemble() -> None:
    """With the suite's half of the steps more stand: three of 45."""
    vae = zoo("vae")
    record = bench(masked("saturated output", "declared"), in_full=True, brief=False)
    assert excess(record, bench(vae, in_full=True, brief=False)) <= 5
    assert names_of_flags(record) == {"does not reconstruct"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quantised output", "through numpy", "another gradient"])
def test_a_mask_on_a_categorical_code_is_broken_or_flagged(
    name: str, plain: dict[str, Record]
) -> None:
    declared, hidden = (getattr(BY_NAME[name], w)(zoo("jointvae")) for w in ("declared", "hidden"))
    assert excess(bench(declared), plain["jointvae"]) <= 5
    assert flags_of(hidden) >= TOLD[name]


@pytest.mark.slow
def test_the_gradients_of_another_model_do_not_pass() -> None:
    assert "surrogate and deployed path disagree" in flags_of(borrowed("vae", "betavae"))
