"""What would lead a board without being robust, or say what nobody verified: each is told."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evidence_runs import Forger, reason, verified
from leaderboard_entries import Fake, read_entries, write_entries
from PIL import Image
from principal import bright
from torch import Tensor, nn

import genrobust
from genrobust.board.board import contender, make_board
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.evidence.bundle import SPEC
from genrobust.evidence.checks import RejectionError
from genrobust.evidence.earlier import EARLIER, is_earlier
from genrobust.evidence.entries import read_alone
from genrobust.evidence.entry import BundledModel
from genrobust.models.model import GenerativeModel
from genrobust.models.portable import export_model
from genrobust.posterior import Codebook
from genrobust.records.load import read_record
from genrobust.records.record import Estimate, Flag, Record
from genrobust.report.pictures import png
from genrobust.site.pages import render
from genrobust.suites import load_suite
from genrobust.verify import capacity, generality
from genrobust.verify.capacity import rate_limit, rate_of
from genrobust.verify.claims import require_equal, require_near
from genrobust.verify.consistency import check_said, require_near_flags
from genrobust.verify.generality import require_alone, require_general
from genrobust.verify.pictures import check_pictures, traversals
from genrobust.verify.replay import Replay, check_signs
from genrobust.verify.subject import Subject

SUITE = load_suite("digits")
IMAGES = genrobust.load_images("digits", "test")
SOURCES = IMAGES.take(SUITE.sample_ids)
LIMIT = rate_limit(SUITE, (1, 32, 32))


@cache
def vae() -> GenerativeModel:
    return genrobust.load_model("vae")


# ---- What has no bottleneck ----


class Identity(nn.Module):
    """The image is its code, as it is or turned into something else and back."""

    input_shape = (1, 32, 32)

    def __init__(self, there: Callable[[Tensor], Any], back: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.there, self.back = there, back

    def encode(self, x: Tensor) -> Any:
        return self.there(x.flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        return self.back(z).view(-1, 1, 32, 32).clamp(0, 1)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


TURN = torch.linalg.qr(torch.randn(1024, 1024, generator=_generator()))[0]
ORDER = torch.randperm(1024, generator=_generator())
PATTERN = 0.1 * torch.rand(1024, generator=_generator())


def coupled(x: Tensor, way: int) -> Tensor:
    """An invertible network of one coupling layer."""
    a, b = x.chunk(2, 1)
    return torch.cat([a, b + way * (3 * a).sin()], 1)


def pooled(x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(x.view(-1, 1, 32, 32), 4).flatten(1)


def unpooled(z: Tensor) -> Tensor:
    return nn.functional.interpolate(z.view(-1, 1, 8, 8), scale_factor=4, mode="bilinear")


def packed(x: Tensor) -> Tensor:
    """Eight pixels of four levels in one number."""
    return ((x * 3).round().view(len(x), 128, 8) * 4.0 ** torch.arange(8)).sum(-1)


def unpacked(z: Tensor) -> Tensor:
    digits = [(z.round() / 4.0**k).floor().remainder(4) / 3 for k in range(8)]
    return torch.stack(digits, -1).flatten(1)


NO_BOTTLENECK: dict[str, tuple[Callable[[Tensor], Any], Callable[[Tensor], Tensor]]] = {
    "as it is": (lambda x: x, lambda z: z),
    "rotated": (lambda x: x @ TURN, lambda z: z @ TURN.T),
    "permuted": (lambda x: x[:, ORDER], lambda z: z[:, ORDER.argsort()]),
    "scaled": (lambda x: 1e-4 * x, lambda z: 1e4 * z),
    "an invertible network": (lambda x: coupled(x, 1), lambda z: coupled(z, -1)),
    "with a pattern that looks like an error": (lambda x: x, lambda z: z + PATTERN),
    "blurred by a lie of noise": (lambda x: (1e-3 * x, 0 * x), lambda z: 1e3 * z),
    "black and white, robust to its noise": (
        lambda x: (2 * (x > 0.5).float() - 1 + x - x.detach(), 0 * x - 1),
        lambda z: (4 * z).sigmoid(),
    ),
    "its 8x8 means": (pooled, unpooled),
    "its 8x8 means, brightened": (pooled, lambda z: unpooled(z) + 0.1),
}


@pytest.mark.parametrize("how", NO_BOTTLENECK)
def test_what_has_no_bottleneck_is_above_the_limit(how: str) -> None:
    model = genrobust.wrap(Identity(*NO_BOTTLENECK[how]))
    assert rate_of(model, SOURCES, seed=0) > LIMIT
    assert rate_of(model, SOURCES, seed=1) > LIMIT


def test_packing_pixels_into_few_numbers_hides_nothing() -> None:
    model = genrobust.wrap(Identity(packed, unpacked), differentiable=False)
    assert rate_of(model, SOURCES, seed=0) > LIMIT


def test_what_goes_beside_the_code_counts_as_all_that_an_image_holds() -> None:
    whole = 24 * torch.tensor(2.0).log().item() * 1024
    honest = bright()
    beside = genrobust.wrap(
        honest.module, encode=honest.encode, decode=honest.decode, deploy=lambda x: x
    )
    assert rate_of(beside, SOURCES, seed=0) == pytest.approx(whole)


class Remembering(nn.Module):
    """Its decoder gives back what its encoder saw last."""

    input_shape = (1, 32, 32)

    def __init__(self, strict: bool) -> None:
        super().__init__()
        self.strict = strict

    def encode(self, x: Tensor) -> Tensor:
        self.last = x
        return x.flatten(1)[:, :3]

    def decode(self, z: Tensor) -> Tensor:
        last = self.last if self.strict else self.last[torch.arange(len(z)) % len(self.last)]
        return (last + 0 * z.sum(1).view(-1, 1, 1, 1)).clamp(0, 1)


@pytest.mark.parametrize("batch", [2, 3, 5])
@pytest.mark.parametrize("strict", [False, True])
def test_what_a_decoder_remembers_counts_as_all_that_an_image_holds(
    strict: bool, batch: int
) -> None:
    with pytest.warns(GenrobustWarning, match="decode takes more than its code"):
        model = genrobust.wrap(Remembering(strict))
    whole = 24 * torch.tensor(2.0).log().item() * 1024
    assert rate_of(model, SOURCES[:5], seed=0, batch=batch) == pytest.approx(whole)


def test_memory_that_runs_out_is_no_memory_of_the_decoders() -> None:
    model, fails = bright(), iter((False, True))

    def decoder(code: Tensor) -> Tensor:
        if next(fails):
            raise torch.OutOfMemoryError
        return model.decoder(code)

    with pytest.raises(GenrobustError, match="lower --batch-size"):
        rate_of(replace(model, decoder=decoder), SOURCES[:2], seed=0)


@pytest.mark.parametrize("name", ["vae", "betavae-capacity", "jointvae"])
def test_honest_codes_are_below_the_limit(name: str) -> None:
    model = genrobust.load_model(name)
    rates = [rate_of(model, SOURCES, seed) for seed in (0, 1)]
    assert max(rates) < LIMIT / 2
    kl = float(model.encode(SOURCES).kl_to_prior().sum(1).mean())
    assert max(rates) <= kl + 1e-9


def test_a_list_of_codes_carries_its_logarithm() -> None:
    """Whatever an encoder of two positions of 512 entries looks at."""

    class Quantised(nn.Module):
        input_shape = (1, 32, 32)

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(512, 2, generator=_generator()))

        def encode(self, x: Tensor) -> Codebook:
            halves = x.flatten(1).view(len(x), 2, 2, 256).mean(-1)
            return Codebook(10 * halves - 2, self.table)

        def decode(self, z: Tensor) -> Tensor:
            return z.flatten(1).sigmoid().repeat_interleave(256, 1).view(-1, 1, 32, 32)

    rate = rate_of(genrobust.wrap(Quantised()), SOURCES, seed=0)
    assert rate == pytest.approx(2 * torch.tensor(512.0).log().item())


class Kept(nn.Module):
    """A code of some of sixteen pixels and of a number that never changes; the others are grey."""

    input_shape = (1, 4, 4)

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def encode(self, x: Tensor) -> Tensor:
        return torch.cat([x.flatten(1)[:, : self.count], 0 * x.flatten(1)[:, :1] + 0.5], 1)

    def decode(self, z: Tensor) -> Tensor:
        grey = z[:, -1:].expand(-1, 16 - self.count)
        return torch.cat([z[:, : self.count], grey], 1).view(-1, 1, 4, 4)


@pytest.mark.parametrize(("count", "parts", "faint"), [(12, 3, 1), (15, 4, 1), (15, 20, 2**-7.7)])
def test_a_code_carries_what_a_channel_with_the_noise_that_is_borne_does(
    count: int, parts: int, faint: float
) -> None:
    """Each of k of n pixels may have noise of so many of its variances, of all or of what is lost.

    Pixels vary alike but for the last, which is lost and may be fainter.
    """
    x = torch.rand(4000, 1, 4, 4, generator=_generator())
    x[:, :, 3, 3] = 0.5 + faint * (x[:, :, 3, 3] - 0.5)
    lost = 15 - count + faint**2
    least = min((count + lost) / 8, lost) / count
    assert 1.05 < least * 2**parts < 1.9
    rate = rate_of(genrobust.wrap(Kept(count)), x, seed=0, batch=4000)
    assert rate == pytest.approx(count / 2 * math.log(1 + 2**parts))


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((0.5, 1.9, 1.0), 0.5),  # of the images, and where attacks lead at each of two radii
        ((0.5, 1.0, 2.1), 2.1),
        ((0.99, 0.1, 0.1), 0.99),
        ((1.01, 3.0, 3.0), 1.01),
    ],
)
def test_where_attacks_lead_a_code_counts_from_twice_the_limit(
    rates: tuple[float, ...], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [rate * LIMIT for rate in rates]
    sizes: list[int] = []

    def rate_of(model: GenerativeModel, x: Tensor, *_: Any, **__: Any) -> float:
        sizes.append(len(x))
        return left.pop(0)

    monkeypatch.setattr(capacity, "rate_of", rate_of)
    monkeypatch.setattr(capacity, "driven", lambda *_: (SOURCES[:3], (SOURCES[:3],) * 2))
    assert capacity.measured_rate(vae(), IMAGES, SUITE, seed=0) == pytest.approx(expected * LIMIT)
    assert sizes == ([100, 3, 3] if expected != 1.01 else [100])


# ---- One model in the checks, another in the scores ----


class Twofold(nn.Module):
    """An honest model, and the identity for some images of a batch."""

    input_shape = (1, 32, 32)

    def __init__(self, cheats: Callable[[Twofold, Tensor], Tensor]) -> None:
        super().__init__()
        self.honest, self.cheats, self.calls = bright(), cheats, 0

    def reconstruct(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.where(self.cheats(self, x).view(-1, 1, 1, 1), x, self.honest.reconstruct(x))


def _all(x: Tensor, yes: bool) -> Tensor:
    return torch.full((len(x),), yes)


BY_THE_BATCH: dict[str, Callable[[Twofold, Tensor], Tensor]] = {
    "its size": lambda m, x: _all(x, len(x) > 8),
    "its size, the other way": lambda m, x: _all(x, len(x) < 45),
    "its size alone among all": lambda m, x: _all(x, len(x) == 45),
    "the place in it": lambda m, x: torch.arange(len(x)) > 7,
    "the first place": lambda m, x: torch.arange(len(x)) == 0,
    "its mean": lambda m, x: _all(x, float(x.mean()) > float(SOURCES.mean())),
    "its neighbour": lambda m, x: x.roll(1, 0).mean((1, 2, 3)) > x.mean((1, 2, 3)),
    "a counter": lambda m, x: _all(x, m.calls > 4),
    "every other call": lambda m, x: _all(x, m.calls % 2 == 0),
}


@pytest.mark.parametrize("what", BY_THE_BATCH)
def test_a_model_that_goes_by_the_batch_is_refused(what: str) -> None:
    module = Twofold(BY_THE_BATCH[what])
    model = replace(bright(), module=module, deploy=module.reconstruct)
    scored = torch.cat([model.reconstruct(part) for part in SOURCES.split(SUITE.chunk_size)])
    with pytest.raises(RejectionError, match=r"depends on how many images are in a batch"):
        require_alone(model, SOURCES, scored, SUITE, seed=5)


def test_an_honest_model_is_the_same_in_every_batch() -> None:
    model = bright()
    scored = torch.cat([model.reconstruct(part) for part in SOURCES.split(SUITE.chunk_size)])
    for seed in range(2):
        assert "as they were scored" in require_alone(model, SOURCES, scored, SUITE, seed)


@pytest.mark.parametrize(("count", "spared"), [(90, 1), (300, 3)])
def test_a_hundredth_of_the_images_may_come_out_otherwise(count: int, spared: int) -> None:
    model, x = bright(), IMAGES.take(range(count))
    scored = model.reconstruct(x)
    scored[:spared] += 0.5
    require_alone(model, x, scored, SUITE, seed=5)
    scored[spared] += 0.5
    with pytest.raises(RejectionError, match=rf"{spared + 1} of {count} images"):
        require_alone(model, x, scored, SUITE, seed=5)


@pytest.mark.parametrize("deployed", [True, False])
def test_a_hundredth_of_a_deployed_images_pixels_may_lie_on_an_edge(deployed: bool) -> None:
    model = bright()
    model = replace(model, deploy=model.reconstruct) if deployed else model
    for count, fine in ((0, True), (1, deployed), (10, deployed), (11, False)):
        scored = model.reconstruct(SOURCES)
        scored.flatten(1)[:, :count] += 0.5
        if fine:
            require_alone(model, SOURCES, scored, SUITE, seed=5)
            continue
        with pytest.raises(RejectionError, match=r"reconstructed otherwise"):
            require_alone(model, SOURCES, scored, SUITE, seed=5)


def test_images_go_alone_and_in_three_random_partitions_up_to_twice_a_batch() -> None:
    found = [*generality._partitions(200, 10, _generator())]
    assert len(found) == 4
    orders = [torch.cat(batches) for batches in found]
    for order in orders:
        assert order.sort().values.tolist() == [*range(200)]
    assert len({tuple(order.tolist()) for order in orders}) == 4
    sizes = [[len(batch) for batch in batches] for batches in found]
    assert sizes[1] == [1] * 200
    others = [size for number in (0, 2, 3) for size in sizes[number]]
    assert min(others) == 1
    assert 17 <= max(others) <= 20


def known(far: float) -> GenerativeModel:
    """Honest within a distance of the suite's sources, and the identity everywhere else."""
    honest, stored = bright(), SOURCES.flatten(1)

    def deploy(x: Tensor) -> Tensor:
        apart = (x.flatten(1)[:, None] - stored).abs().amax(2).amin(1)
        return torch.where((apart <= far).view(-1, 1, 1, 1), honest.reconstruct(x), x)

    return replace(honest, deploy=deploy)


@pytest.mark.parametrize("far", [0.0, 0.015, 0.05])
def test_a_model_that_is_honest_on_the_sources_alone_is_refused(far: float) -> None:
    with pytest.raises(RejectionError, match=r"another model where images are none of them"):
        require_general(known(far), IMAGES, SUITE, seed=0)


# ---- Boards ----


def standings(root: Path, fakes: list[Fake], **rates: float) -> dict[str, str]:
    entries = read_entries(write_entries(root, fakes))
    with_rates = [
        replace(
            one, verification=one.verification.model_copy(update={"rate": rates[one.entry.slug]})
        )
        if one.verification and one.entry.slug in rates
        else one
        for one in entries
    ]
    board = make_board([contender(one) for one in with_rates])
    return {row.contender.id: row.standing for row in board.rows}


@pytest.mark.slow
def test_what_has_no_bottleneck_or_no_replay_has_no_rank(tmp_path: Path) -> None:
    fakes = [
        Fake("identity", 0.95, 1),
        Fake("honest", 0.4, 2),
        Fake("earlier", 0.3, 3),
        Fake("nobody-looked", 0.9, 4, depth=None),
        Fake("looked-at", 0.8, 5, depth="schema"),
    ]
    found = standings(tmp_path, fakes, identity=LIMIT + 1e-6, honest=LIMIT)
    assert found == {
        "honest": "ranked",
        "earlier": "ranked",
        "identity": "no bottleneck",
        "nobody-looked": "not replayed",
        "looked-at": "not replayed",
    }


def alike(**changed: float) -> dict[str, Estimate]:
    """Scores of one model, some of them moved."""
    said = {"reconstruction_error": 6.0, "kl": 15.0, **changed}
    return {name: Estimate(value=x, low=x - 1, high=x + 1, n=90) for name, x in said.items()}


def test_a_model_with_other_bits_that_does_the_same_holds_one_place(tmp_path: Path) -> None:
    """Such as one weight moved by 1e-7, or latents in another order."""
    fakes = [
        Fake("first", 0.5, 1, scores=alike()),
        Fake("moved-a-little", 0.5, 1, scores=alike(reconstruction_error=6.000001)),
        Fake("reconstructed-dimmer", 0.5, 1, scores=alike(reconstruction_error=6.1)),
        Fake("of-another-error", 0.5, 1, scores=alike(reconstruction_error=7.0)),
        Fake("falls-elsewhere", 0.3, 2, scores=alike()),
    ]
    found = standings(tmp_path, fakes)
    assert found.pop("moved-a-little") == found.pop("reconstructed-dimmer") == "repeated"
    assert set(found.values()) == {"ranked"}


def test_a_suite_may_state_its_own_limit() -> None:
    stricter = SUITE.model_copy(update={"rate_limit": 0.01})
    assert rate_limit(stricter, (1, 32, 32)) == pytest.approx(10.24)
    assert rate_limit(SUITE, (3, 64, 64)) == pytest.approx(0.03 * 12288)
    assert "rate_limit" not in SUITE.model_dump_json()
    assert stricter.sha256 != SUITE.sha256


def test_a_name_that_is_anothers_goes_with_its_folder(tmp_path: Path) -> None:
    names = {"plain": "Plain VAE", "copy": "plain  vae", "other": "Other"}
    fakes = [
        Fake(slug, 0.4, n, submission={"name": name})
        for n, (slug, name) in enumerate(names.items())
    ]
    rows = make_board([contender(one) for one in read_entries(write_entries(tmp_path, fakes))]).rows
    assert {row.contender.name for row in rows} == {
        "Plain VAE (plain)",
        "plain  vae (copy)",
        "Other",
    }


# ---- Signs and scores ----


def elsewhere(forger: Forger) -> Forger:
    where = forger.evidence.record.provenance.model_copy(update={"processor": "Another"})
    return forger.record(provenance=where)


LEFT_OUT: dict[str, tuple[str, ...]] = {
    "what tells of the gradient": ("descent", "descent_promised", "probe.stopped"),
    "one of them": ("probe.stopped",),
    "what says that nothing is reconstructed": ("damage.",),
    "what looks after the attacks": ("along_attacked",),
    "what tells the pixels apart": ("directional.along_pixels",),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_signs_cannot_be_left_out(forger: Forger, what: str) -> None:
    names = LEFT_OUT[what]
    elsewhere(forger).without(*names)
    assert f"has no '{names[0]}" in reason(verified(forger.written(), "schema"))


def test_a_record_cannot_say_that_it_is_old(forger: Forger) -> None:
    elsewhere(forger).record(radii="from the largest")
    assert "an earlier genrobust" in reason(verified(forger.written(), "schema"))


def test_the_list_of_what_is_old_is_that_of_the_entries_that_are() -> None:
    entries = Path(__file__).parents[1] / "leaderboard" / "entries"
    found = 0
    for path in entries.rglob("record.json"):
        from_the_largest = read_record(path.read_bytes()).radii == "from the largest"
        assert is_earlier(path.read_bytes()) == from_the_largest, path
        found += from_the_largest
    assert found == len(EARLIER)


def test_a_raised_flag_is_not_dropped_by_naming_another_machine(replayed: Replay) -> None:
    """The gradients of a rippled model: what a replay recomputes raises what was left out."""
    signs = replayed.outcome.signs
    assert signs is not None
    for cosine, fine in ((0.9, True), (0.1, False)):
        turned = torch.full_like(signs.guidance.gradient_cosine, cosine)
        guidance = replace(signs.guidance, gradient_cosine=turned)
        outcome = replace(replayed.outcome, signs=replace(signs, guidance=guidance))
        evidence = replace(
            replayed.evidence, tensors={**replayed.evidence.tensors, "gradient_cosine": turned}
        )
        for where in (None, "processor Another there"):
            found = replace(replayed, evidence=evidence, outcome=outcome, elsewhere=where)
            if fine:
                assert "recomputed" in check_signs(found)
                continue
            with pytest.raises(RejectionError, match="'gradients are random'"):
                check_signs(found)


def test_signs_that_are_not_the_models_are_told_on_another_machine(replayed: Replay) -> None:
    stored = {**replayed.evidence.tensors, "gradient_cosine": torch.full((24,), 0.5)}
    evidence = replace(replayed.evidence, tensors=stored)
    with pytest.raises(RejectionError, match="'gradient_cosine' is not what the model gives"):
        check_signs(replace(replayed, evidence=evidence, elsewhere="processor Another there"))


@pytest.mark.parametrize("value", [0.029, 0.031])
def test_what_lies_at_a_limit_may_lie_on_its_other_side_elsewhere(
    replayed: Replay, value: float
) -> None:
    flag = Flag(name="gradients vanish", evidence="", value=0.1 + value, limit=0.1)
    record = replayed.evidence.record
    if value < 0.03:
        return require_near_flags(record, (flag,))
    with pytest.raises(RejectionError, match=r"'gradients vanish' at 0\.131"):
        require_near_flags(record, (flag,))
    return None


WIDE: dict[str, dict[str, float]] = {
    "value and interval": {"value": 0.01, "low": 0.0, "high": 1e6},
    "interval": {"low": 0.0, "high": 1e6},
    "upper end": {"high": 1e3},
    "lower end": {"low": -1.0},
    "sources": {"n": 1000},
}


@pytest.mark.parametrize("what", WIDE)
@pytest.mark.parametrize("score", ["reconstruction_error", "kl", "robust_area"])
def test_a_claimed_interval_does_not_judge_itself(replayed: Replay, what: str, score: str) -> None:
    found = replayed.scores
    require_near(found, found)
    true = getattr(found, score)
    claimed = {name: type(getattr(true, name))(value) for name, value in WIDE[what].items()}
    forged = found.model_copy(update={score: true.model_copy(update=claimed)})
    with pytest.raises(RejectionError, match=f"{score} is claimed"):
        require_near(forged, found)


@pytest.mark.parametrize("require", [require_equal, require_near])
def test_what_no_interval_bounds_is_near_or_the_claim_falls(
    replayed: Replay, require: Callable[..., int]
) -> None:
    """The flips of discrete choices."""
    found = replayed.scores

    def told(share: float | None) -> Any:
        at = tuple(one.model_copy(update={"token_flips": share}) for one in found.per_eps)
        return found.model_copy(update={"per_eps": at})

    assert require(told(0.5), told(0.5))
    for share in (None, 0.0, 0.9):
        with pytest.raises(RejectionError, match="token_flips at eps"):
            require(told(share), told(0.5))


# ---- What is shown ----


def other_pixels(png: bytes) -> bytes:
    return png_of(1 - _read(png))


def a_stripe(png: bytes) -> bytes:
    pixels = _read(png)
    pixels[:3] = 0.5
    return png_of(pixels)


def smaller(png: bytes) -> bytes:
    return png_of(_read(png)[:-32])


def with_words(png: bytes) -> bytes:
    body = b"tEXtComment\0robust"
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]


def with_more_behind(png: bytes) -> bytes:
    return png + b"<script>"


def cut(png: bytes) -> bytes:
    length = struct.unpack(">I", png[33:37])[0]
    return png[:33] + struct.pack(">I", 10) + png[37:51] + png[41 + length :]


def _read(png: bytes) -> Tensor:
    return torch.tensor(np.asarray(Image.open(BytesIO(png)).convert("L"))).float() / 255


def png_of(pixels: Tensor) -> bytes:
    return png(pixels[None])


def looked_at(replayed: Replay, entry: Path, where: str | None, **pictures: bytes) -> str:
    loaded = read_alone(entry)
    given = {
        name: replace(getattr(loaded, name), content=content) for name, content in pictures.items()
    }
    model = replayed.prepared.loaded.scorer.model
    return check_pictures(replace(loaded, **given), model, replayed.outcome, where)


@pytest.mark.parametrize("name", ["thumbnails", "traversals"])
@pytest.mark.parametrize(
    "change", [other_pixels, a_stripe, smaller, with_words, with_more_behind, cut]
)
def test_pictures_are_those_of_the_model(
    replayed: Replay, tiny_entry: Path, name: str, change: Callable[[bytes], bytes]
) -> None:
    content = (tiny_entry / f"{name}.png").read_bytes()
    field = "pictures" if name == "thumbnails" else name
    assert "as the model" in looked_at(replayed, tiny_entry, None, **{field: content})
    assert "as the model" in looked_at(
        replayed, tiny_entry, None, **{field: png_of(_read(content))}
    )
    with pytest.raises(RejectionError, match=name):
        looked_at(replayed, tiny_entry, None, **{field: change(content)})


def test_pictures_of_another_model_are_told_on_any_machine(
    replayed: Replay, tiny_entry: Path
) -> None:
    other = traversals(genrobust.load_model("betavae"), SOURCES[:24])
    assert other is not None
    for where in (None, "processor Another there"):
        with pytest.raises(RejectionError, match="is not what the model and its evidence draw"):
            looked_at(replayed, tiny_entry, where, traversals=other)


def times(**changed: Any) -> Callable[[Record], Record]:
    return lambda r: r.model_copy(update={"times": r.times.model_copy(update=changed)})


def made(**changed: Any) -> Callable[[Record], Record]:
    return lambda r: r.model_copy(update={"provenance": r.provenance.model_copy(update=changed)})


SAID: dict[str, tuple[Callable[[Record], Record], str]] = {
    "negative seconds": (times(attack_seconds=-5.0), "attacks took -5 seconds"),
    "endless seconds": (times(attack_seconds=1e12), r"attacks took 1e\+12 seconds"),
    "a day that is none": (times(created="9999-99-99"), "a date that is none"),
    "a day to come": (times(created="9999-12-31T00:00:00+00:00"), "which cannot be"),
    "a day before all": (times(created="1970-01-01T00:00:00+00:00"), "which cannot be"),
    "a mark in a date that turns it round": (
        times(created="2026-10-01\u202e10:00:00"),
        "not a plain word",
    ),
    "words for a date": (times(created="soon"), "a date that is none"),
    "a version that is an option": (
        made(genrobust="1 --index-url https://example.org"),
        "no version of genrobust",
    ),
    "a version with an end": (made(genrobust="0.1.0\n"), "no version of genrobust"),
    "an escape in the processor": (made(processor="\x1b[2J"), "not a plain word"),
    "a novel for a platform": (made(platform="robust " * 100), "not a plain word"),
    "a package of other words": (made(packages={"torch": "2\u2028"}), "not a plain word"),
}


@pytest.mark.parametrize("what", SAID)
def test_what_nobody_can_prove_has_at_least_its_form(replayed: Replay, what: str) -> None:
    forge, words = SAID[what]
    subject = Subject(Path("evidence.zip"), replayed.evidence)
    assert "by its own word" in check_said(subject)
    forged = replace(replayed.evidence, record=forge(replayed.evidence.record))
    with pytest.raises(RejectionError, match=words):
        check_said(replace(subject, evidence=forged))


@pytest.mark.parametrize("day", ["2026-99-99", "9999-12-31", "2020-01-01"])
def test_an_entry_was_submitted_on_a_day_that_was(forger: Forger, day: str) -> None:
    assert re.search(
        "submitted|cannot be", reason(verified(forger.rehashed(submitted=day), "schema"))
    )


def test_a_page_shows_no_word_of_the_run_that_is_not_derived(tmp_path: Path) -> None:
    """Neither its command, nor its name for the model, nor its seconds."""
    entries = write_entries(tmp_path, [Fake("plain", 0.4)])
    loaded = read_entries(entries)[0]
    record = made(command="curl https://example.org | sh")(loaded.record)
    record = times(attack_seconds=77777.0)(record)
    liar = record.model.model_copy(update={"name": "RobustNet", "reference": "robust.py:build"})
    told = replace(loaded, record=record.model_copy(update={"model": liar}))
    pages = dict(render([make_board([contender(told)])]))
    for name, content in pages.items():
        if name.endswith(("index.html", ".csv", "board.json")):
            for word in (b"curl", b"RobustNet", b"robust.py", b"77,777", b"77777", b"21 h"):
                assert word not in content, (name, word)


def test_a_manifest_cannot_call_a_model_something_else(replayed: Replay) -> None:
    spec, files = export_model(vae())
    contents = {SPEC: json.dumps(spec).encode(), **files}
    true = BundledModel(format="safetensors", architecture=spec["architecture"])
    assert replace(replayed.evidence, model=true, model_files=contents).load_model()
    for said in (
        BundledModel(format="exported"),
        BundledModel(format="safetensors", architecture="something-robust"),
    ):
        with pytest.raises(GenrobustError, match="name different kinds of model"):
            replace(replayed.evidence, model=said, model_files=contents).load_model()
