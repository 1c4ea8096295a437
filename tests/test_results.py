"""Results that one works with: pictures, curves, comparisons in pairs, what an attack did."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from safetensors.torch import load, save
from scipy.stats import bootstrap

import genrobust
from genrobust import MinimumNormRecord, Record
from genrobust.errors import GenrobustError
from genrobust.records.at_hand import AtHand
from genrobust.records.compare import compared_curves
from genrobust.records.curve_record import Source
from genrobust.records.examples import Attacked, Example
from genrobust.records.record import Flag
from genrobust.seeding import seed_of
from genrobust.suites import load_suite

mpl.use("Agg")
ENTRIES = Path(__file__).parent.parent / "leaderboard" / "entries" / "digits-v1"
EXAMPLE = Example(3, 1, torch.zeros(1, 8, 8), torch.full((1, 8, 8), 0.25), ())
FALLEN = replace(
    EXAMPLE, attacked=(Attacked(0.1, torch.full((1, 8, 8), 0.1), torch.ones(1, 8, 8), 0),)
)
RUN: dict[str, Any] = {"limit": 4, "eps": [0.1], "attacks": ["noise"], "executor": "serial"}


@pytest.fixture(autouse=True)
def _no_figures_left() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def entries() -> tuple[Record, Record]:
    return Record.load(ENTRIES / "zoo-jointvae"), Record.load(ENTRIES / "zoo-vae")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    folder = tmp_path_factory.mktemp("run")
    return genrobust.bench("vae", **RUN, out=folder), folder


def test_a_comparison_is_the_paired_bootstrap_of_the_sources(
    entries: tuple[Record, Record],
) -> None:
    one, other = entries
    found = one.compare(other)
    assert found.names == ("jointvae", "vae")
    for at, a, b in zip(found.per_eps, one.scores.per_eps, other.scores.per_eps, strict=True):
        difference = a.robust_accuracy.value - b.robust_accuracy.value
        assert at.eps == a.eps
        assert at.robust_accuracy.value == pytest.approx(difference, abs=1e-12)
    assert one.scores.robust_area is not None
    assert other.scores.robust_area is not None
    assert found.robust_area is not None
    area = one.scores.robust_area.value - other.scores.robust_area.value
    assert found.robust_area.value == pytest.approx(area, abs=1e-12)
    # scipy, on who stands at the third radius
    stands = []
    for record in entries:
        beside = record.at_hand.outcomes_of(record)
        stands.append(
            [e and (i is None or i > 2)
             for e, i in zip(beside.eligible, beside.ignore_target, strict=True)]
        )  # fmt: skip
    paired = np.array(stands[0], float) - np.array(stands[1], float)
    suite = one.suite
    draws = np.random.default_rng(seed_of("bootstrap", suite.name, suite.version))
    expected = bootstrap(
        (paired,), np.mean, n_resamples=suite.resamples, confidence_level=suite.confidence,
        method="percentile", rng=draws,
    ).confidence_interval  # fmt: skip
    third = found.per_eps[2].robust_accuracy
    assert (third.low, third.high) == pytest.approx(tuple(expected), abs=1e-12)
    assert third.low > 0, "these sources tell the two apart there"


def test_a_comparison_says_what_it_cannot_tell_apart(entries: tuple[Record, Record]) -> None:
    one, other = entries
    words = repr(one.compare(other))
    assert words.startswith("jointvae minus vae on digits v1 (L∞), 90 sources in pairs\n")
    assert re.search(r"at 0\.06 +\+25\.6 points \[\+16\.7, \+35\.6\]$", words, re.M)
    assert re.search(r"at 0\.1 .*, not told apart$", words, re.M)
    same = one.compare(one)
    assert all(at.robust_accuracy.value == at.robust_accuracy.high == 0 for at in same.per_eps)
    flag = Flag(name="gradients vanish", evidence="", value=1.0, limit=0.1)
    flagged = other.model_copy(update={"flags": (flag,)})
    assert repr(one.compare(flagged)).endswith("\nNOT RELIABLE: gradients vanish")


def test_other_suites_do_not_compare(
    entries: tuple[Record, Record], run: tuple[Record, Path]
) -> None:
    with pytest.raises(GenrobustError, match=r"differ in version, .*attacks.* measure both"):
        entries[0].compare(run[0])


def test_what_is_not_at_hand_is_said(entries: tuple[Record, Record], tmp_path: Path) -> None:
    one, other = entries
    alone = Record.model_validate_json(one.model_dump_json())
    assert alone == one, "what is at hand is no part of a record"
    with pytest.raises(GenrobustError, match=r"not at hand .*'jointvae'.*Record.load\("):
        alone.compare(other)
    with pytest.raises(GenrobustError, match=r"' cannot be read; measure it again by 'gen"):
        one.plot_examples()
    (tmp_path / "record.json").write_bytes((ENTRIES / "zoo-vae" / "record.json").read_bytes())
    (tmp_path / "outcomes.json").write_bytes((ENTRIES / "zoo-jointvae/outcomes.json").read_bytes())
    with pytest.raises(GenrobustError, match=r"not of the record beside it \(record.json claims"):
        Record.load(tmp_path).compare(one)
    (tmp_path / "examples.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(GenrobustError, match="' is damaged, or no file of a run's pictures"):
        Record.load(tmp_path).plot_examples()


def ask(folder: Path, name: str) -> None:
    """What of a record needs the file of that name."""
    record = Record.load(folder)
    record.plot_examples() if "examples" in name else record.compare(record)


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("name", ["outcomes.json", "examples.safetensors"])
def test_where_a_file_is_lost_its_command_here_is_said_or_its_call(
    name: str, damaged: bool, run: tuple[Record, Path], tmp_path: Path
) -> None:
    shutil.copytree(run[1], tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(b"") if damaged else (tmp_path / name).unlink()
    called = rf"{name}' .*call genrobust\.bench again as .*, with out='{tmp_path}'"
    with pytest.raises(GenrobustError, match=called):
        ask(tmp_path, name)
    plan = json.loads((tmp_path / "plan.json").read_text())
    plan["folder"] = str(tmp_path)
    plan["command"] += f" --out {tmp_path.parents[1]} --workers 2"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    typed = rf"{name}' .*type its command again, .*: {re.escape(plan['command'])}$"
    with pytest.raises(GenrobustError, match=typed):
        ask(tmp_path, name)


def test_the_same_call_gives_lost_files_back(run: tuple[Record, Path], tmp_path: Path) -> None:
    shutil.copytree(run[1], tmp_path, dirs_exist_ok=True)
    (tmp_path / "outcomes.json").write_bytes(b"{}")
    (tmp_path / "examples.safetensors").write_bytes(b"{}")
    genrobust.bench("vae", **RUN, out=tmp_path)
    for name in ("outcomes.json", "examples.safetensors"):
        assert (tmp_path / name).read_bytes() == (run[1] / name).read_bytes()
        ask(tmp_path, name)


def test_a_run_keeps_what_its_record_can_be_asked(run: tuple[Record, Path]) -> None:
    record, folder = run
    again = Record.load(folder)
    assert again == record
    assert again.compare(record).robust_area == record.compare(again).robust_area
    both = [one.plot_examples(classes=[f"digit {c}" for c in range(10)]) for one in (record, again)]
    drawn = [[ax.images[0].get_array() for ax in f.axes if ax.images] for f in both]
    assert len(drawn[0]) == len(drawn[1]) > 0
    assert all(np.array_equal(a, b) for a, b in zip(*drawn, strict=True))
    assert both[0].axes[0].get_title().startswith("digit ")
    both[0].savefig(io.BytesIO(), format="pdf")


def test_pictures_that_do_not_say_of_which_run_they_are_are_read(
    run: tuple[Record, Path], tmp_path: Path
) -> None:
    """As earlier versions wrote them."""
    shutil.copytree(run[1], tmp_path, dirs_exist_ok=True)
    content = (tmp_path / "examples.safetensors").read_bytes()
    (tmp_path / "examples.safetensors").write_bytes(save(load(content)))
    assert len(Record.load(tmp_path).plot_examples().axes) > 0


def test_what_stood_has_no_attacked_picture(run: tuple[Record, Path]) -> None:
    record = run[0].beside(AtHand(examples=[EXAMPLE, FALLEN]))
    figure = record.plot_examples()
    rows = [figure.axes[i : i + 2] for i in range(0, 10, 2)]
    assert [ax.get_title() for ax in rows[0]] == ["1\nstood", "1 → 0\nat 0.1"]
    assert [[bool(ax.images) for ax in row] for row in rows] == [
        *([[True, True]] + [[False, True]] * 2 + [[True, True], [False, True]])
    ]
    assert rows[2][0].get_ylabel() == "change times 5"
    assert float(rows[2][1].images[0].get_array().max()) == pytest.approx(1.0)
    with pytest.raises(GenrobustError, match="no source is eligible"):
        record.beside(AtHand(examples=[])).plot_examples()


def a_curve(name: str, *distances: float | None) -> Any:
    """What a comparison reads of a curve; a source at 0 is not eligible, and one at None
    stands whatever is done to it."""
    sources = [SimpleNamespace(eligible=d != 0, distance=d or None) for d in distances]
    suite = load_suite("digits").limited(len(distances)).model_copy(update={"eps": (0.0, 0.1, 0.2)})
    model = SimpleNamespace(name=name)
    return SimpleNamespace(suite=suite, sources=sources, model=model, flags=(), fidelity=None)


def test_curves_compare_who_stands_at_each_radius_and_up_to_the_largest() -> None:
    """A source falls at its distance, as at all that is the radius but for rounding."""
    one = a_curve("one", 0.1, 0.10001, 0.3, None)
    other = a_curve("other", 0, 0.1, 0.2 + 1e-9, 0.15)
    found = compared_curves(one, other)
    assert found.eligible.value == pytest.approx(1 / 4)
    assert found.robust_area is not None
    area = (0.1 + 0.10001 + 0.2 + 0.2) - (0 + 0.1 + 0.2 + 0.15)
    assert found.robust_area.value == pytest.approx(area / 0.2 / 4)
    at = [each.robust_accuracy.value for each in found.per_eps]
    assert at == pytest.approx([1 / 4, 1 / 4, 2 / 4])


@pytest.mark.slow
def test_a_curve_has_the_same_conventions(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    suite = load_suite("digits").with_attacks(["noise"])
    record = genrobust.minimum_norm("vae", suite, limit=1, executor="serial", out=tmp_path)
    again = MinimumNormRecord.load(tmp_path)
    assert again == record
    first, second, last = repr(record).splitlines()
    assert first.startswith("vae on digits v2 (a suite of one's own; the first 1 of 90 samples), s")
    assert f"{record.per_eps[0].robust_accuracy.value:.1%} at 0.02" in second
    assert last == "NOT RELIABLE: few eligible sources"
    table = record.to_pandas()
    assert table["distance"].tolist() == [source.distance for source in record.sources]
    assert set(table["flags"]) == {"few eligible sources"}
    (line,) = again.plot_curve().lines
    assert line.get_label() == "vae (not reliable)"
    assert list(line.get_ydata()) == list(record.curve.robust_accuracy)
    assert len(again.plot_examples().axes) == 5
    assert "<svg" in record._repr_html_()
    farther = record.model_copy(
        update={"sources": tuple(_moved(source, 0.01) for source in record.sources)}
    )
    area = farther.compare(record).robust_area
    assert area is not None
    assert (area.value, area.low, area.high) == pytest.approx((0.1, 0.1, 0.1))
    with pytest.raises(GenrobustError, match="there is no record in"):
        MinimumNormRecord.load(tmp_path / "none")


def test_an_attack_shows_what_it_did() -> None:
    model, x = genrobust.load_model("vae"), genrobust.load_images("digits").take(range(3))
    found = genrobust.attack("noise", model, x, target=x.flip(0), eps=0.1)
    assert "context" not in repr(found)
    before = torch.random.get_rng_state()
    figure = found.show(2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(figure.axes) == 10
    assert figure.axes[0].get_title().startswith("L∞ 0.0999\nL2 ")
    shown = torch.as_tensor(figure.axes[8].images[0].get_array())
    assert torch.allclose(shown, model.reconstruct(found.x_adv[:1])[0, 0])
    with pytest.raises(GenrobustError, match="nothing to show"):
        replace(found, context=None).show()
    with pytest.raises(GenrobustError, match="most"):
        found.show(0)


def _moved(source: Source, by: float) -> Source:
    assert source.distance is not None
    return source.model_copy(update={"distance": source.distance + by})
