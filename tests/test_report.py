"""The report: complete, self-contained, honest, safe, and readable without seeing colours."""

from __future__ import annotations

import base64
import re
from io import BytesIO, StringIO
from itertools import pairwise
from typing import Any

import pytest
import torch
from html_pages import Page
from PIL import Image
from rich.console import Console

from genrobust.errors import GenrobustError
from genrobust.records.curve_record import Curve
from genrobust.records.examples import Attacked, Example
from genrobust.records.record import (
    AttackCost,
    DataInfo,
    EpsScores,
    Estimate,
    Flag,
    JudgeInfo,
    ModelInfo,
    PairMatrix,
    Provenance,
    Record,
    Scores,
    Times,
)
from genrobust.report.figures import Look, Scale, comparison_chart, heat_map, model_chart
from genrobust.report.html import headline, render
from genrobust.report.pictures import data_uri
from genrobust.report.terminal import score_table
from genrobust.suites.suite import AttackEntry, JudgeRef, Suite

EPS = (0.0625, 0.125)
JUDGE = JudgeRef(architecture="lenet", sha256="c" * 64)
#: Two classes; the pair (1, 0) has no eligible source.
PAIRS = PairMatrix(rate=((None, 0.37), (None, None)), n=((0, 27), (0, 0)))


def share(count: int, n: int, spread: float = 0.05) -> Estimate:
    value = count / n
    width = 0 if count in (0, n) else spread
    return Estimate(value=value, low=value - width, high=value + width, n=n)


def at_eps(eps: float, surviving: int, eligible: int, sources: int) -> EpsScores:
    changed = eligible - surviving
    return EpsScores(
        eps=eps,
        robust_accuracy=share(surviving, sources),
        as_ignore_target=share(changed, eligible) if eligible else None,
        as_target=share(changed // 2, eligible) if eligible else None,
        as_ignore_target_macro=0.4321 if eligible else None,
        as_target_macro=0.2345 if eligible else None,
        as_target_of_wrong=0.5432 if changed else None,
        as_ignore_target_pairs=PAIRS,
        as_target_pairs=PAIRS,
        linf=eps * 0.9 if changed else None,
        l2=eps * 20 if changed else None,
        reconstruction_shift=3.217 if eligible else None,
        source_similarity=0.987 if changed else None,
        reconstruction_similarity=0.654 if changed else None,
        latent_displacement=2.5 if changed else None,
        symmetric_kl=None,
    )


def record(
    name: str = "my-vae",
    surviving: tuple[int, ...] = (71, 23),
    eligible: int = 96,
    sources: int = 100,
    norm: str = "linf",
    eps: tuple[float, ...] = EPS,
    **changes: Any,
) -> Record:
    suite = Suite(
        name="digits",
        version=1,
        description="Handwritten digits.",
        dataset="digits",
        split="test",
        data_sha256="d" * 64,
        sample_ids=tuple(range(sources)),
        target_ids=tuple(range(sources)),
        norm=norm,
        eps=eps,
        attacks=(AttackEntry(attack="latent", goal="targeted", settings={"steps": 77}),),
        ensemble=False,
        rule="agreement",
        attacker_judge=JUDGE,
        scoring_judges=(JUDGE,),
        chunk_size=50,
        confidence=0.95,
        resamples=100,
    )
    per_eps = (at_eps(e, s, eligible, sources) for e, s in zip(eps, surviving, strict=True))
    fields = {
        "official": True,
        "radii": "each",
        "deviations": (),
        "model": ModelInfo(
            name=name,
            reference="models.py:my_vae",
            fingerprint="f" * 64,
            spec={"kind": "vae"},
            input_shape=(1, 8, 8),
            latents="16 normal",
            code_size=16,
            parameters=123456,
            draws=1,
            deploy=False,
            card=None,
        ),
        "suite": suite,
        "suite_sha256": suite.sha256,
        "seed": 3,
        "data": DataInfo(name="digits", split="test", sha256="d" * 64),
        "judges": (JudgeInfo(name="digits/lenet", sha256="c" * 64, role="scorer"),),
        "scores": Scores(
            sources=sources,
            eligible=eligible,
            clean_accuracy=share(eligible, sources, spread=0.013),
            reconstruction_error=Estimate(value=23.45, low=21.5, high=25.25, n=sources),
            kl=Estimate(value=12.5, low=12.0, high=13.0, n=sources),
            total_correlation=0.75,
            robust_area=share(eligible // 3, sources, spread=0.017),
            eps50=0.0375,
            per_eps=tuple(per_eps),
        ),
        "flags": (),
        "attacks": (
            AttackCost(
                label="latent targeted",
                settings={"steps": 77},
                tried=(eligible,) * len(eps),
                succeeded=(17,) * len(eps),
                forwards=4001,
                backwards=3002,
            ),
        ),
        "forwards": 4001,
        "backwards": 3002,
        "provenance": Provenance(
            command="genrobust bench models.py:my_vae --suite digits --seed 3",
            genrobust="0.1.0",
            python="3.10.1",
            packages={"torch": "2.4.0"},
            platform="Linux",
            processor="some processor",
            device="cpu",
            shards=("a" * 64, "b" * 64),
        ),
        "times": Times(created="2025-01-02T03:04:05Z", attack_seconds=75.0),
    }
    return Record(**{**fields, **changes})


def example(sample_id: int = 5, shape: tuple[int, int, int] = (1, 8, 8)) -> Example:
    """Holds at the first radii, broken at 0.3."""
    image = torch.rand(shape, generator=torch.Generator().manual_seed(sample_id))
    return Example(
        sample_id=sample_id,
        label=2,
        source=image,
        reconstruction=1 - image,
        attacked=(Attacked(0.3, image, image, 4),),
    )


def page(*reports: tuple[Record, list[Example]]) -> Page:
    return Page(render(reports))


def pixels(uri: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


def test_nothing_is_loaded_from_outside():
    html = render([(record(), [example()]), (record("other"), [])])
    assert "http://" not in html
    assert "https://" not in html
    assert not re.search(r"url\(|@import", html)
    found = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & {t for t, _ in found.tags}
    for tag, attributes in found.tags:
        assert attributes.get("src", "data:").startswith("data:"), tag
        assert attributes.get("href", "#").startswith("#"), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    policy = [
        m["content"] for m in found.all("meta") if "content-security-policy" in str(m).lower()
    ]
    assert len(policy) == 1
    assert policy[0].startswith("default-src 'none'")


def test_every_link_within_the_page_leads_somewhere():
    found = page((record(surviving=(5, 0)), []), (record("other"), []))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in found.all("a")} <= set(ids)
    assert "unanimous" in ids


@pytest.mark.parametrize(
    "shown",
    [
        *("71.0%", "66.0% to 76.0%", "23.0%", "18.0% to 28.0%"),  # robust accuracy
        *("26.0%", "76.0%", "12.5%", "37.5%", "43.2%", "23.4%", "54.3%"),  # success rates
        *("96.0%", "94.7% to 97.3%", "23.45", "21.5 to 25.25"),  # clean
        *("0.05625", "0.1125", "1.25", "2.5", "3.217"),  # norms and shift
        *("17 of 96", "4 001", "3 002", "1 min 15 s"),  # attacks and cost
        *("f" * 64, "c" * 64, "d" * 64, "123 456", "16 normal", "digits/lenet", "torch 2.4.0"),
        *("steps=77", "genrobust bench models.py:my_vae --suite digits-v1 --seed 3", "seed 3"),
    ],
)
def test_the_page_shows(shown: str):
    text = page((record(), [])).text.replace("\u202f", " ")
    assert shown in text


def test_a_name_is_text_and_never_markup():
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    command = "genrobust bench '</code><script>alert(2)</script>'"
    provenance = record().provenance.model_copy(update={"command": command})
    html = render([(record(evil, provenance=provenance), []), (record(evil), [])])
    assert "<script" not in html
    found = Page(html)
    assert evil in found.text
    assert command in found.text
    assert not found.all("img")


def test_every_picture_is_there_with_a_text_that_says_what_it_is():
    found = page((record(), [example(5), example(6)]))
    pictures = found.all("img")
    assert len(pictures) == 2 * (2 + 2)
    texts = [picture["alt"] for picture in pictures]
    assert "Source, sample 5: class 2" in texts
    assert "Clean reconstruction of sample 6" in texts
    assert "Its reconstruction at eps 0.3: shows 4, attack succeeded" in texts
    assert pixels(pictures[0]["src"]).size == (8, 8)
    assert pictures[0]["src"] != pictures[1]["src"]


def test_success_is_marked_by_a_word_and_only_where_there_was_one():
    assert page((record(), [example()])).parts.count("✕ changed") == 1


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_picture_keeps_its_pixels(channels: int, mode: str):
    image = torch.zeros(channels, 4, 6)
    image[0, 1, 2] = 1
    image[-1, 3, 5] = 0.5
    picture = pixels(data_uri(image))
    assert (picture.mode, picture.size) == (mode, (6, 4))
    assert picture.getpixel((2, 1)) == (255 if channels == 1 else (255, 0, 0))
    assert picture.getpixel((5, 3)) == (128 if channels == 1 else (0, 0, 128))


def test_pixels_outside_the_box_do_not_wrap_around():
    assert pixels(data_uri(torch.tensor([[[-0.1, 1.1]]]))).tobytes() == bytes([0, 255])


def test_several_models_are_compared():
    found = page((record("first"), []), (record("second", surviving=(90, 80)), []))
    assert found.text.count("Comparison") == 1
    assert len([c for c in found.all("svg") if c.get("class") == "chart"]) == 3
    assert {"#model-1", "#model-2"} <= {a["href"] for a in found.all("a")}
    assert "2 models on digits v1" in found.text
    assert "Not measured alike" not in found.text


def test_one_model_is_compared_with_nothing():
    found = page((record(), []))
    assert "Comparison" not in found.text
    assert found.all("h1")
    assert "my-vae on digits v1" in found.text


def test_models_of_one_name_are_told_apart():
    chart = comparison_chart([("1. same", record("same")), ("2. same", record("same"))])
    assert len({line.look for line in chart.lines}) == 2
    found = page((record("same"), []), (record("same"), []))
    assert "1. same" in found.text
    assert "2. same" in found.text


def test_different_protocols_are_not_passed_off_as_comparable():
    other = record("other", surviving=(40,), eps=(0.5,))
    assert "Not measured alike" in page((record(), []), (other, [])).text


def test_radii_of_different_norms_share_no_chart():
    found = page((record(), []), (record("other", norm="l2"), []))
    assert len([c for c in found.all("svg") if c.get("class") == "chart"]) == 2
    assert "different norms" in found.text


def test_no_eligible_source_is_said_and_not_shown_as_a_rate():
    nothing = record(surviving=(0, 0), eligible=0)
    found = page((nothing, []))
    assert "There is nothing to break" in found.text
    assert [line.label for line in model_chart(nothing).lines] == ["robust accuracy"]


def test_deviations_are_announced_and_official_runs_carry_no_banner():
    deviating = record(official=False, deviations=("the first 10 of 100 samples",))
    text = page((deviating, [])).text
    assert "Not an official result" in text
    assert "the first 10 of 100 samples" in text
    assert text.index("Not an official result") < text.index("Key numbers")
    assert "Not an official result" not in page((record(), [])).text


@pytest.mark.parametrize(
    ("surviving", "eligible", "said"),
    [
        ((71, 23), 96, "At eps 0.125 (L∞) 23 of 100 reconstructions survive"),
        ((71, 23), 96, "turn 73 of these into another class"),
        ((71, 1), 96, "At eps 0.125 (L∞) 1 of 100 reconstructions survives"),
        ((71, 0), 96, "At eps 0.125 (L∞) no reconstruction survives"),
        ((0, 0), 96, "From eps 0.0625 (L∞) on no reconstruction survives"),
        ((96, 96), 96, "At eps 0.125 (L∞) every reconstruction survives"),
        ((96, 96), 96, "recognise 96 of 100 sources"),
        ((0, 0), 0, "none of the 100 sources"),
    ],
)
def test_the_verdict_is_what_the_numbers_say(surviving: tuple[int, int], eligible: int, said: str):
    assert said in headline(record(surviving=surviving, eligible=eligible))


def test_an_interval_without_width_is_explained_by_the_rule_of_three():
    text = page((record(surviving=(5, 0), eligible=20, sources=25), [])).text
    assert "all 25 agree*" in text
    assert "12.0% for n = 25, 15.0% for n = 20" in text
    assert "rule of three" not in page((record(), [])).text


def test_the_curve_runs_from_the_eligible_share_through_the_scores():
    chart = model_chart(record())
    robust, ignore_target, _ = chart.lines
    height = chart.bottom - chart.top
    rates = [(chart.bottom - mark.y) / height for mark in robust.marks]
    assert rates == pytest.approx([0.96, 0.71, 0.23], abs=1e-3)
    assert [m.x for m in robust.marks] == pytest.approx(
        [chart.left, (chart.left + chart.right) / 2, chart.right]
    )
    assert (chart.bottom - ignore_target.marks[0].y) == 0
    assert robust.band is not None
    assert ignore_target.band is None


def rates_along(path: str, chart: Any) -> list[tuple[float, float]]:
    """The radii, as shares of the axis, and the rates that a path goes through."""
    places = [tuple(map(float, place.split())) for place in path.strip("MZ").split("L")]
    width, height = chart.right - chart.left, chart.bottom - chart.top
    return [((x - chart.left) / width, (chart.bottom - y) / height) for x, y in places]


def test_the_band_goes_out_along_the_upper_ends_and_back_along_the_lower_ones():
    chart = model_chart(record())
    out_and_back = [(0.5, 0.76), (1.0, 0.28), (1.0, 0.18), (0.5, 0.66)]
    for found, wanted in zip(rates_along(chart.lines[0].band, chart), out_and_back, strict=True):
        assert found == pytest.approx(wanted, abs=1e-3)


def test_a_curve_of_smallest_changes_is_level_until_the_next_and_falls_there():
    """What lies beyond the axis is left out, and what falls at its very end is not."""
    scale = Scale([0.1])
    curve = Curve(
        radius=(0.0, 0.05, 0.1, 0.3),
        robust_accuracy=(0.9, 0.5, 0.2, 0.1),
        low=(0.8, 0.4, 0.1, 0.0),
        high=(1.0, 0.6, 0.3, 0.2),
    )
    line, chart = scale.steps("robust accuracy", Look.of(0), curve, []), model_chart(record())
    level = [(0, 0.9), (0.5, 0.9), (0.5, 0.5), (1, 0.5), (1, 0.2), (1, 0.2)]
    assert rates_along(line.path, chart) == [pytest.approx(place, abs=1e-3) for place in level]
    upper = [(x, y + 0.1) for x, y in level]
    lower = [(x, y - 0.1) for x, y in reversed(level)]
    assert rates_along(line.band, chart) == [
        pytest.approx(place, abs=1e-3) for place in upper + lower
    ]


def test_a_radius_of_zero_is_measured_and_not_made_up():
    measured = model_chart(record(eps=(0.0, 0.1), surviving=(96, 10)))
    assert [len(line.marks) for line in measured.lines] == [2, 2, 2]


def test_labels_of_close_radii_do_not_overlap():
    close = record(eps=(0.001, 0.002, 0.5), surviving=(9, 8, 7))
    ticks = model_chart(close).x_ticks
    assert [tick.text for tick in ticks] == ["0", "", "", "0.5"]


def test_a_heat_map_tells_empty_pairs_from_a_rate_of_zero():
    zero = PairMatrix(rate=((None, 0.0), (None, None)), n=((0, 3), (0, 0)))
    kinds = [[cell.kind for cell in row] for row in heat_map(zero)]
    assert kinds == [["diagonal", "rate"], ["empty", "diagonal"]]
    found = page((record(), []))
    cells = [td for td in found.all("td") if td.get("class") == "p37"]
    assert len(cells) == 2 * len(EPS)
    assert found.parts.count("37") == 2 * len(EPS)


def test_only_the_largest_radius_has_its_pairs_unfolded():
    html = render([(record(), [])])
    folded = re.findall(r"<details>.*?</details>", html, re.S)
    assert sum("as_target at eps 0.0625" in part for part in folded) == 1
    assert not any("at eps 0.125</caption>" in part for part in folded)
    assert "as_target at eps 0.125</caption>" in html


def test_headings_do_not_skip_a_level():
    for reports in ([(record(), [])], [(record(), []), (record("b"), [])]):
        levels = [int(t[1]) for t, _ in page(*reports).tags if re.fullmatch("h[1-6]", t)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b - a <= 1 for a, b in pairwise(levels))


def test_twelve_examples_fit_in_half_a_megabyte():
    noise = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))
    attacked = (Attacked(0.1, noise, noise, 4),)
    examples = [Example(i, 2, noise, noise, attacked) for i in range(48)]
    assert len(render([(record(), examples)]).encode()) < 500_000


def test_nothing_to_report_is_refused():
    with pytest.raises(GenrobustError, match="at least one record"):
        render([])


def test_a_flag_is_shown_with_its_evidence_and_without_flags_nothing_is() -> None:
    flag = Flag(name="gradients vanish", evidence="for 62% of <sources>", value=0.62, limit=0.1)
    flagged = page((record(flags=(flag,)), [])).text
    assert "Not reliable." in flagged
    assert "gradients vanish: for 62% of <sources>." in flagged
    assert "Not reliable" not in page((record(), [])).text


def test_the_area_and_eps50_are_shown() -> None:
    text = page((record(), [])).text
    assert "32.0%" in text
    assert "0.0375" in text
    scores = record().scores.model_copy(update={"eps50": None})
    assert "above 0.125" in page((record(scores=scores), [])).text


def shown(*records: Record) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(score_table(records))
    return console.export_text()


def test_a_terminal_shows_percents_with_their_intervals():
    text = shown(record())
    rows = [[cell.strip() for cell in line.split("\u2502")[1:-1]] for line in text.splitlines()]
    rows = [row for row in rows if row]
    assert rows == [
        ["my-vae", "clean", "96.0 [95, 97]", "", ""],
        ["", "0.0625", "71.0 [66, 76]", "26.0 [21, 31]", "12.5 [8, 18]"],
        ["", "0.125", "23.0 [18, 28]", "76.0 [71, 81]", "37.5 [32, 42]"],
    ]
    assert "?" not in text
    assert "not official" not in text


def test_a_terminal_marks_each_number_of_a_model_that_is_flagged_and_says_all_why():
    flags = tuple(Flag(name=n, evidence=f"because of {n}", value=1.0, limit=0.1) for n in "ab")
    text = shown(record(flags=flags), record("sound", deviations=("--seed 3", "--limit 20")))
    assert all(
        number in text for number in ("96.0 [95, 97] ?", "71.0 [66, 76] ?", "23.0 [18, 28] ?")
    )
    assert text.count("] ?") == 3
    assert "? my-vae is not reliable: because of a\n? my-vae is not reliable: because of b" in text
    assert "not official: --limit 20; --seed 3" in text


def test_what_is_no_letter_reaches_no_terminal():
    assert "a\ufffd[2Jb" in shown(record("a\x1b[2Jb"))
