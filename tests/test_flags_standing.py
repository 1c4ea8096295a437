"""A sign that few sources bear is told where they stand and the others fall."""

from __future__ import annotations

import pytest
import torch
from diagnosed import is_beyond, sound
from scipy.stats import hypergeom
from torch import Tensor, nn

import genrobust
from genrobust.outcomes import flags, marks
from genrobust.outcomes.association import stand_more_often
from genrobust.outcomes.outcome import Counts, Signs
from genrobust.records.record import Flag
from genrobust.runner import curve
from genrobust.suites import Suite, load_suite

COUNT = 24

#: What a sound source gives, what one with the sign gives, and the flag.
BORNE = {
    "gradient_cosine": (1.0, marks.ALIKE - 0.1, "gradients are random"),
    "descent_relaxed": (1.0, marks.KEPT - 0.1, "gradients mislead"),
    "smoothed_gain": (0.0, marks.GAIN + 0.1, "a smoothed gradient leads further"),
    "directional.along_either": (1.0, marks.ALONG - 0.1, "gradients are wrong in part"),
    "directional.along_latent_either": (1.0, marks.ALONG - 0.1, "latents without a true gradient"),
    "directional.along_pixels": (1.0, marks.ALONG - 0.1, "pixels without a true gradient"),
    "directional.jump": (0.0, marks.JUMP + 0.1, "reconstructions jump"),
    "directional.response": (1.0, 0.0, "reconstructions do not follow the image"),
    "directional.unreached": (0.0, marks.HIDDEN + 0.1, "codes that no gradient reaches"),
    "directional.lead": (0.0, marks.LEAD + 1, "categories are too sure"),
    "along_attacked": (1.0, marks.ALONG - 0.1, "gradients are wrong where attacks lead"),
    "response_attacked": (1.0, 0.0, "reconstructions are held where attacks lead"),
    "followed": (1.0, marks.ALONG - 0.1, "gradients are wrong on the way of attacks"),
}


def first(count: int, of: int = COUNT) -> Tensor:
    return torch.arange(of) < count


def raised(
    suite: Suite,
    radius: Tensor | None,
    eligible: Tensor | None = None,
    norm: Tensor | None = None,
    **borne: Tensor,
) -> list[Flag]:
    """The flags of a run in which the sources that are named by a column bear its sign."""
    count = COUNT if radius is None else len(radius)
    columns = {name: torch.full((count,), well) for name, (well, _, _) in BORNE.items()}
    for name, mask in borne.items():
        columns[name][mask] = BORNE[name][1]
    if norm is not None:
        columns["gradient_norm"] = norm
    signs = Signs.of({**sound(count, len(suite.eps)), **columns})
    counts = Counts(*torch.zeros(4, len(suite.attacks) + 2, len(suite.eps), dtype=torch.int64))
    eligible = first(count, count) if eligible is None else eligible
    found = flags.raised(suite, eligible, signs, counts, radius=radius)
    return [flag for flag in found if flag.name != "few eligible sources"]


def at(suite: Suite, *eps: float) -> Suite:
    return suite.model_copy(update={"eps": eps, "attacks": ()})


@pytest.mark.parametrize("column", BORNE)
def test_a_sign_of_those_that_stand_is_told(small_suite: Suite, column: str) -> None:
    suite, bearing = at(small_suite, 0.06), first(4)
    (flag,) = raised(suite, first(6).long(), **{column: bearing})
    assert flag.name == BORNE[column][2]
    assert flag.evidence.startswith(
        "for 4 of the 24 eligible sources, which stand more often than the others (at eps 0.06 4 "
        "of them and 2 of the other 20), "
    )
    assert (flag.value, flag.limit) == (4 / 24, 3 / 24)
    # Those that fall, all that bear it without a radius, and those that are not asked of.
    assert not raised(suite, (~first(4)).long(), **{column: bearing})
    assert not raised(suite, None, **{column: bearing})
    assert not raised(suite, first(6).long(), ~first(2), **{column: bearing})


@pytest.mark.parametrize("column", ["gradient_cosine", "descent_relaxed"])
def test_a_sign_beyond_its_share_is_told_once(small_suite: Suite, column: str) -> None:
    (flag,) = raised(at(small_suite, 0.06), first(7).long(), **{column: first(7)})
    assert flag.limit == 0.25


def unjudged(suite: Suite) -> Suite:
    without = {"rule": "damage", "attacker_judge": None, "scoring_judges": ()}
    return at(suite, 0.06).model_copy(update=without)


@pytest.mark.parametrize(("response", "told"), [(1.0, True), (1.01, False)])
@pytest.mark.parametrize("column", ["descent_relaxed", "smoothed_gain"])
def test_without_a_judge_steps_are_asked_of_what_follows_noise_no_farther_than_it_goes(
    small_suite: Suite, monkeypatch: pytest.MonkeyPatch, column: str, response: float, told: bool
) -> None:
    monkeypatch.setitem(BORNE, "directional.response", (response, 0.0, ""))
    found = raised(unjudged(small_suite), None, **{column: first(COUNT)})
    assert [flag.name for flag in found] == ([BORNE[column][2]] if told else [])
    assert all("the likeness to the source" in flag.evidence for flag in found)
    (judged,) = raised(at(small_suite, 0.06), None, **{column: first(COUNT)})
    assert "the judge's margin" in judged.evidence


def test_without_a_judge_what_differences_bear_out_is_not_random(small_suite: Suite) -> None:
    """As of the largest of some filters, of which black pixels all give the same."""
    turns = {"gradient_cosine": first(COUNT)}
    assert raised(at(small_suite, 0.06), None, **turns)
    assert not raised(unjudged(small_suite), None, **turns)
    wrong = {"directional.along_either": first(COUNT)}
    names = [flag.name for flag in raised(unjudged(small_suite), None, **turns, **wrong)]
    assert names == ["gradients are random", "gradients are wrong in part"]


@pytest.mark.parametrize("column", ["gradient_cosine", "descent_relaxed"])
def test_a_sign_of_gradients_is_not_asked_of_sources_without_one(
    small_suite: Suite, column: str
) -> None:
    """Two without are too few for the flag of those, and with two others too few to stand out."""
    suite, norm = at(small_suite, 0.06), (~first(2)).float()
    told = {
        norm is None: raised(suite, first(4).long(), norm=norm, **{column: first(4)})
        for norm in (None, norm)
    }
    assert [flag.name for flag in told[True]] == [BORNE[column][2]]
    assert told[False] == []


@pytest.mark.parametrize(
    ("held", "standing", "told"),
    [(7, 7, True), (7, 11, True), (7, 12, False), (6, 6, False), (24, 0, False)],
)
def test_what_stands_because_a_part_of_it_is_held_is_told(
    small_suite: Suite, held: int, standing: int, told: bool
) -> None:
    """Over 60% of what stands at the largest radius, and over a quarter of all."""
    suite = at(small_suite, 0.04, 0.06)
    radius = torch.where(first(standing), 2, 1)
    for response in (0.49, float("nan")):
        signs = {"response_attacked": torch.where(first(held), response, 0.5)}
        columns = {**sound(COUNT, 2), **signs, "probe.success": ~first(0).expand(2, -1)}
        found = flags._upheld(suite, Signs.of(columns), ~first(0), radius)
        assert is_beyond(found) == told
        assert flags._upheld(suite, Signs.of(columns), ~first(7), radius) is None  # not eligible


@pytest.mark.parametrize(
    ("rule", "told"), [("agreement", True), ("damage", False), ("distance", False)]
)
def test_only_with_a_judge_does_half_of_the_movement_tell(
    small_suite: Suite, rule: str, told: bool
) -> None:
    """Without one attacks lead to where pictures saturate, and honest models follow by less."""
    suite = at(small_suite, 0.06).model_copy(update={"rule": rule})
    columns = {**sound(COUNT, 1), "response_attacked": torch.full((COUNT,), 0.4)}
    counts = Counts(*torch.zeros(4, 2, 1, dtype=torch.int64))
    radius, all_of_them = first(COUNT).long(), first(COUNT)
    found = flags.raised(suite, all_of_them, Signs.of(columns), counts, radius=radius)
    assert ("what stands is held" in [flag.name for flag in found]) == told


@pytest.mark.parametrize(("others", "told"), [(0, True), (4, True), (5, False), (20, False)])
def test_chance_is_a_hundredth_at_most(small_suite: Suite, others: int, told: bool) -> None:
    """Of 9 that stand of 24, chance has all of 4 in one of 84; of 8, in one of 151."""
    found = raised(
        at(small_suite, 0.06), first(4 + others).long(), **{"directional.jump": first(4)}
    )
    assert bool(found) == told


@pytest.mark.parametrize(
    ("bearing", "standing", "told"), [(5, 5, False), (6, 6, True), (6, 16, True), (6, 17, False)]
)
def test_what_may_be_lifted_is_a_twentieth(bearing: int, standing: int, told: bool) -> None:
    found = stand_more_often({"sign": first(bearing, 100)}, first(standing, 100).long(), 1)
    assert bool(found) == told


@pytest.mark.parametrize(
    ("bearing", "standing", "sources", "told"), [(6, 20, 40, False), (5, 19, 45, True)]
)
def test_chance_ends_right_at_a_hundredth(
    bearing: int, standing: int, sources: int, told: bool
) -> None:
    """That all that bear the sign stand is a matter of 0.0101 and of 0.0095."""
    chance = hypergeom.pmf(bearing, sources, bearing, standing)
    assert (chance < 0.01) == told
    borne = {"sign": first(bearing, sources)}
    assert bool(stand_more_often(borne, first(standing, sources).long(), 1)) == told


@pytest.mark.parametrize(("both", "told"), [(9, False), (10, True)])
def test_what_chance_hardly_gives_but_lifts_little_is_not_told(both: int, told: bool) -> None:
    """Of 100, 20 bear a sign and 20 stand: by chance 4 do both, and 9 or more in one of 254; yet a
    twentieth above what chance gives is no lift."""
    bearing, standing = first(20, 100), first(20, 100).roll(20 - both)
    assert int((bearing & standing).sum()) == both
    assert hypergeom.sf(8, 100, 20, 20) == pytest.approx(1 / 254, rel=0.01)
    assert bool(stand_more_often({"sign": bearing}, standing.long(), 1)) == told


def test_the_smallest_radius_that_tells_is_named(small_suite: Suite) -> None:
    suite = at(small_suite, 0.02, 0.04, 0.06, 0.1)
    radius = torch.where(first(4), 4, torch.arange(COUNT) % 3)
    (flag,) = raised(suite, radius, **{"directional.jump": first(4)})
    assert "at eps 0.06 4 of them and 0 of the other 20" in flag.evidence


def test_more_signs_and_radii_are_more_looks() -> None:
    borne, radius = {"sign": first(4)}, first(8).long()
    assert stand_more_often(borne, radius, 1)
    assert not stand_more_often({**borne, "another": first(5).flip(0)}, radius, 1)
    assert not stand_more_often(borne, 2 * radius, 2)
    assert stand_more_often({**borne, "of one": first(1)}, radius, 1)  # which cannot lift
    assert not stand_more_often(borne, first(0).long(), 1)
    assert not stand_more_often({"sign": first(0, 0)}, first(0, 0).long(), 1)


def test_signs_that_are_no_matter_are_hardly_ever_told() -> None:
    draws = torch.Generator().manual_seed(0)
    told = 0
    for _ in range(100):
        signs = {str(n): torch.rand(90, generator=draws) < 0.15 for n in range(3)}
        radius = torch.randint(0, 5, (90,), generator=draws)
        told += bool(stand_more_often(signs, radius, 4))
    assert told <= 1


class ForThinDigits(nn.Module):
    """A VAE that sees the nearest known digit in place of a thin and rough one."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.inner = genrobust.load_model("vae").module
        known = genrobust.load_images("digits", "train").take(range(1000))
        self.register_buffer("known", known)
        self.thin = float(known[:500].flatten(1).mean(1).quantile(0.14))

    def encode(self, x: Tensor) -> Tensor:
        rough = (x - nn.functional.avg_pool2d(x, 3, 1, 1)).abs().flatten(1).median(1).values
        known: Tensor = self.get_buffer("known")
        nearest = known[torch.cdist(x.flatten(1), known.flatten(1)).argmin(1)]
        odd = (rough > 0.016) & (x.flatten(1).mean(1) < self.thin)
        code = self.inner.get_submodule("encoder")(torch.where(odd.view(-1, 1, 1, 1), nearest, x))
        return torch.as_tensor(code)[:, :10]

    def decode(self, z: Tensor) -> Tensor:
        return torch.as_tensor(self.inner.get_submodule("decoder")(z))


class HalfGated(ForThinDigits):
    """Half of the output is of the nearest known digit where an image is rougher than these."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = float(_roughness(self.get_buffer("known")).max())

    def encode(self, x: Tensor) -> Tensor:
        known: Tensor = self.get_buffer("known")
        nearest = known[torch.cdist(x.flatten(1), known.flatten(1)).argmin(1)]
        shut = ((_roughness(x) / self.limit - 1.08) / 0.02).sigmoid().view(-1, 1, 1, 1)
        encoder = self.inner.get_submodule("encoder")
        return torch.cat([encoder(one)[:, :10] for one in (x, x + shut * (nearest - x))], 1)

    def decode(self, z: Tensor) -> Tensor:
        own, gated = (super(HalfGated, self).decode(half) for half in z.chunk(2, 1))
        return own / 2 + gated / 2


def _roughness(x: Tensor) -> Tensor:
    mean = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return (x - mean).flatten(1).abs().mean(1)


@pytest.mark.slow
def test_a_gate_of_half_the_output_is_told() -> None:
    """12 of 20 stand at 0.06, and 3 under an attack that keeps the gate open."""
    model = genrobust.wrap(HalfGated().eval())
    suite = load_suite("digits").limited(20).with_eps([0.06]).with_attacks(["classifier"])
    assert "what stands is held" in [flag.name for flag in genrobust.bench(model, suite).flags]
    plain = genrobust.bench("vae", suite).flags
    assert "what stands is held" not in [flag.name for flag in plain]


@pytest.mark.slow
def test_a_mask_of_a_few_sources_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve, "SEARCHES", ())  # its radii are the suite's attacks' alone
    model = genrobust.wrap(ForThinDigits().eval())
    suite = load_suite("digits").limited(COUNT).with_eps([0.06]).with_attacks(["classifier"])
    for run in (genrobust.bench, genrobust.minimum_norm):
        found = run(model, suite).flags
        names = [flag.name for flag in found]
        assert names == ["reconstructions jump", "gradients are wrong on the way of attacks"]
        for flag in found:
            assert "of the 24 eligible sources, which stand more often than the" in flag.evidence
