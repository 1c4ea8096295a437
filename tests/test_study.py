"""Studies: what they refuse, that they go on where they were stopped, and their statistics."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.stats import f_oneway, spearmanr
from typer.testing import CliRunner

import genrobust.study
from genrobust import files
from genrobust.cli.app import app
from genrobust.data.factors import known_factors
from genrobust.data.sprites import SPRITES
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.judges.load import judges_at
from genrobust.models.zoo import zoo_card
from genrobust.runner.plan import Partition
from genrobust.study import Row, Spec, Study, conduct, page, read_spec, score
from genrobust.study.conduct import Conductor
from genrobust.study.page import write_page
from genrobust.study.statistics import Interval, Resamples, interval, share_between, spearman
from genrobust.suites import load_suite

pytestmark = pytest.mark.usefixtures("brief")

TINY: dict[str, Any] = {
    "name": "tiny",
    "suite": "digits",
    "limit": 2,
    "attacks": ["noise"],
    "seeds": 1,
    "settings": {"steps": 2},
    "recipes": {"vae": {}, "beta-8": {"family": "betavae", "settings": {"penalty.beta": 8}}},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipes": {"vea": {}}}, "the recipe 'vea': unknown model 'vea'; did you mean 'vae'"),
        ({"settings": {"stepz": 3}}, "the setting stepz=3 changes nothing; did you mean 'steps'?"),
        ({"settings": {"steps": 0}}, "the setting steps=0 cannot be taken"),
        (
            {"recipes": {"vae": {"setings": {}}}},
            "recipes.vae: unknown key 'setings'; did you mean 'settings'? Known: family, settings",
        ),
        ({"limt": 3}, "(unknown key 'limt'; did you mean 'limit'? Known: attacks, dataset,"),
        ({"attacks": "noise"}, "attacks: give a list, not 'noise'"),
        ({"recipes": {"a": {"family": "vae"}, "b": {"family": "vae"}}}, "are the same"),
        ({"recipes": {}}, "recipes"),
        ({"suite": None}, "names no suite"),
        ({"sources": 5}, "leave one of them out"),
        ({"seeds": 0}, "seeds: give how many seeds, from 1 to 10000, or a list of them"),
        ({"seeds": 10_001}, "seeds: give how many seeds, from 1 to 10000, or a list of them"),
        ({"seeds": "2"}, "seeds: give how many seeds, from 1 to 10000, or a list of them"),
        ({"seeds": True}, "seeds: give how many seeds, from 1 to 10000, or a list of them"),
        ({"suite": None, "limit": None, "eps": [-0.1]}, "eps is -0.1; it must be a finite eps"),
        ({"seeds": [1, 1]}, "each seed counts once"),
        ({"dataset": "digitz"}, "digitz"),
        ({"suite": "digitz"}, "digitz"),
        ({"name": "../up"}, "name"),
    ],
)
def test_a_spec_that_cannot_be_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({k: v for k, v in (TINY | changes).items() if v is not None}))
    found = CliRunner().invoke(app, ["study", str(path), "--dry-run", "--out", str(tmp_path)])
    assert found.exit_code == 2
    assert said in found.stderr
    assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["name = ", "[[[", "\x00", "[]", "name = 3"])
def test_a_file_that_is_no_study(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(GenrobustError, match="is no study"):
        read_spec(path)


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.toml"
    one.write_text(json.dumps(TINY))
    other.write_text(
        'name = "tiny"\nsuite = "digits"\nlimit = 2\nattacks = ["noise"]\nseeds = 1\n'
        "settings.steps = 2\n[recipes.vae]\n[recipes.beta-8]\nfamily = 'betavae'\n"
        "settings.penalty.beta = 8\n"
    )
    assert read_spec(one).trainings() == read_spec(other).trainings()


@pytest.mark.slow
def test_what_is_done_is_found_and_what_is_wrong_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "DISENTANGLEMENT", {("mig",): score.scores.mig})
    monkeypatch.setattr(page, "DRAWN", ("kl",))
    trained: list[str] = []
    train = conduct.train_vae

    def counted(name: str, *args: Any, **kwargs: Any) -> Any:
        trained.append(name)
        if name == "betavae" and len(trained) == 2:
            raise KeyboardInterrupt
        return train(name, *args, **kwargs)

    monkeypatch.setattr(conduct, "train_vae", counted)
    spec = Spec.model_validate(TINY)
    with pytest.raises(KeyboardInterrupt):
        Conductor(spec, tmp_path).run()
    stopped = genrobust.study.load(tmp_path)
    assert [row.recipe for row in stopped.rows] == ["vae"]
    assert stopped.missing == {"beta-8, seed 0": "not done yet"}
    found = Conductor(spec, tmp_path).run()
    assert trained == ["vae", "betavae", "betavae"]
    assert found == genrobust.study.load(tmp_path / "study.json")
    assert [row.recipe for row in found.rows] == ["vae", "beta-8"]
    assert found.rows[0].metrics["mig"] is not None
    assert "not done" not in (tmp_path / "study.md").read_text()

    renamed = Spec.model_validate(TINY | {"recipes": {"plain": {"family": "vae"}}})
    with pytest.warns(GenrobustWarning, match="of the 2 models in the table .* 1 no longer count"):
        Conductor(renamed, tmp_path).run()  # the same by its content, and the other left out
    assert trained == ["vae", "betavae", "betavae"]

    conductor = Conductor(spec, tmp_path)
    mine, other = (conductor.home(one) for one in conductor.trainings)
    for path in mine.glob("bench-*/row-*.json"):
        path.unlink()
    for suffix in (".json", ".safetensors"):
        files.write_bytes(mine / f"vae{suffix}", (other / f"betavae{suffix}").read_bytes())
    with (
        pytest.warns(GenrobustWarning, match="of the 1 models .* 1 no longer count"),
        pytest.warns(GenrobustWarning, match="holds another model than vae, seed 0"),
    ):
        left = conductor.run()
    assert [row.recipe for row in left.rows] == ["beta-8"]
    assert "holds another model" in (tmp_path / "study.md").read_text()


def test_a_study_with_no_model_at_all_says_why(tmp_path: Path) -> None:
    spec = Spec.model_validate(
        TINY | {"recipes": {"vae": {"settings": {"learning_rate": 1e25}}}, "settings": {"steps": 9}}
    )
    with (
        pytest.warns(GenrobustWarning, match="left out"),
        pytest.raises(GenrobustError, match="no model of the study 'tiny' could be scored"),
    ):
        Conductor(spec, tmp_path).run()


@pytest.mark.slow
def test_what_remains_leaves_out_what_a_run_would(tmp_path: Path) -> None:
    bad = {"bad": {"family": "vae", "settings": {"learning_rate": 1e25}}}
    changes = {"recipes": {"vae": {}, **bad}, "settings": {"steps": 9}, "seeds": 2}
    spec = Spec.model_validate(TINY | changes)
    found = Conductor(spec, tmp_path).remaining()
    assert found.left_out.keys() == {"bad, seed 0", "bad, seed 1"}
    assert "in a study settings.learning_rate = 1e+24" in found.left_out["bad, seed 0"]
    assert [(one.label, one.models) for one in found.trainings] == [("vae", 2)]
    assert (found.models, found.todo) == (4, 2)
    good = Conductor(spec, tmp_path, part=Partition(1, 2)).remaining()
    assert (good.models, good.todo, good.left_out) == (2, 2, {})
    with pytest.raises(GenrobustError, match="no model of the study 'tiny' could be scored"):
        Conductor(spec, tmp_path, part=Partition(2, 2)).remaining()
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_a_studys_judges_start_from_the_folder_that_is_said(tmp_path: Path) -> None:
    build = "import genrobust\nbuild = lambda: genrobust.load_judge('digits', 'lenet').module\n"
    files.write_text(tmp_path / "judges" / "mine.py", build)
    with judges_at(tmp_path / "judges"):
        suite = load_suite("digits").judged_by(["mine.py:build"], "single")
    files.write_text(tmp_path / "suite.json", suite.model_dump_json())
    spec = tmp_path / "spec.json"
    tiny = TINY | {"suite": str(tmp_path / "suite.json"), "recipes": {"vae": {}}}
    files.write_text(spec, json.dumps(tiny))
    words = ["study", str(spec), "--dry-run"]
    lost = CliRunner().invoke(app, words)
    assert (lost.exit_code, "--judge-root" in lost.output) == (2, True)
    found = CliRunner().invoke(app, [*words, "--judge-root", str(tmp_path / "judges")])
    assert (found.exit_code, "1 to bench" in found.output) == (0, True), found.output


@pytest.mark.parametrize("other", [["--shard", "1/2"], ["--dry-run"]])
def test_a_collection_is_of_the_whole(other: list[str], tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(TINY))
    words = ["study", str(path), "--out", str(tmp_path / "out"), "--collect", *other]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert f"has no use for {other[0]}; leave one" in found.stderr
    assert not (tmp_path / "out").exists()


def a_row(name: str, seed: int = 0, area: float = 0.1, **metrics: float) -> Row:
    """A model of this robust area, the same for each of six sources."""
    return Row(
        recipe=name,
        family="vae",
        seed=seed,
        areas=(area,) * 6,
        metrics={"robust_area": area, **metrics},
        weights_sha256="",
    )


def made(areas: dict[str, list[float]], **metrics: dict[str, list[float]]) -> Study:
    """A study with these robust areas."""
    rows = tuple(
        a_row(name, seed, area, **{k: v[name][seed] for k, v in metrics.items()})
        for name, values in areas.items()
        for seed, area in enumerate(values)
    )
    spec = Spec.model_validate(TINY | {"recipes": {name: {"family": "vae"} for name in areas}})
    return Study(spec=spec, suite=load_suite("digits"), rows=rows, genrobust="0")


def test_correlations_over_recipes() -> None:
    areas = {name: [i / 10, i / 10] for i, name in enumerate("abcde")}
    error = {name: [float(i), float(i)] for i, name in enumerate("badce")}
    kl = {name: [-float(i), -float(i)] for i, name in enumerate("abcde")}
    study = made(areas, squared_error=error, kl=kl)
    expected = spearmanr(range(5), [1, 0, 3, 2, 4]).statistic
    assert study.correlation("squared_error").value == pytest.approx(expected)
    assert study.correlation("kl").value == -1
    assert study.correlation("kl", given="squared_error").value == -1
    assert study.correlation("squared_error", given="squared_error").value is None
    assert study.correlation("squared_error", given="robust_area").value is None
    assert study.correlation("robust_area").value is None
    assert study.seed_share() == 0
    with pytest.raises(GenrobustError, match="no column 'mig'; choose one of"):
        study.correlation("mig")


def test_a_difference_is_of_the_same_sources() -> None:
    study = made({"a": [0.1, 0.2], "b": [0.4, 0.5]})
    spread = tuple(i / 10 for i in range(6))  # sources differ more than recipes do
    rows = tuple(
        row.model_copy(update={"areas": tuple(a + row.areas[0] for a in spread)})
        for row in study.rows
    )
    found = study.model_copy(update={"rows": rows}).difference("b", "a")
    assert found.value == pytest.approx(0.3)
    assert found.low is not None
    assert found.low > 0.1
    with pytest.raises(GenrobustError, match="unknown recipe 'c'"):
        study.difference("c", "a")


def test_models_with_flags_are_counted_wherever_their_scores_are_told(tmp_path: Path) -> None:
    study = made({"a": [0.1, 0.2], "b": [0.4, 0.5]}, squared_error={"a": [1.0, 2], "b": [3.0, 4]})
    sound, *others = study.rows
    flags = ("gradients vanish", "few eligible sources")
    rows = (sound, *(row.model_copy(update={"flags": flags}) for row in others))
    study = study.model_copy(update={"rows": rows})
    assert re.search(r": b \(2 flagged\) 0\.45 .*, a \(1 flagged\) 0\.15 ", repr(study))
    legend = study.plot("squared_error", Figure().subplots()).get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == ["a (1 flagged)", "b (2 flagged)"]
    assert study.to_csv().count("gradients vanish; few eligible sources") == 3
    write_page(study, tmp_path)
    assert "too high or say little: gradients vanish (3)," in (tmp_path / "study.md").read_text()


def test_few_recipes_have_no_correlation(tmp_path: Path) -> None:
    each = {"a": [1.0], "b": [2.0]}
    study = made({"a": [0.1], "b": [0.2]}, kl=each, squared_error=each)
    assert study.correlation("kl").value is None
    assert study.seed_share() is None
    write_page(study, tmp_path)
    assert "there is one seed" in (tmp_path / "study.md").read_text()


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of recipes with few seeds, which a plain bootstrap covers far less often."""
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        models = 0.5 + 0.1 * random.standard_normal(4)
        values = models[:, None] + 0.2 * random.standard_normal((4, 60))
        draws = Resamples.draw([range(4)], sources=60, count=400, seed=trial)
        per_model, drawn = draws.by_picture(values)
        found = interval(float(draws.means(per_model)[0]), drawn[:, 0])
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0.5 <= found.high
    assert 0.84 <= hits / 100 <= 0.99


def test_partial_correlation_is_that_of_the_residuals_of_ranks() -> None:
    random = np.random.default_rng(1)
    x, y, z = random.standard_normal((3, 30))
    ranks = [np.argsort(np.argsort(side)).astype(float) for side in (x, y, z)]
    design = np.stack([ranks[2], np.ones(30)], 1)
    left = [side - design @ np.linalg.lstsq(design, side, rcond=None)[0] for side in ranks[:2]]
    assert spearman(x, y, given=z) == pytest.approx(np.corrcoef(*left)[0, 1])
    assert np.isnan(spearman(x, np.ones(30)))


def test_the_share_of_recipes_in_the_variance() -> None:
    assert share_between(np.array([0.0, 1.0, 0.0, 1.0]), [[0, 1], [2, 3]]) == 0
    assert share_between(np.zeros(4), [[0, 1], [2, 3]]) is None


def test_the_share_of_recipes_with_unequal_seeds_is_that_of_the_f_statistic() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.9, 0.7, 1.5, 1.1, 1.3, 1.4])
    groups = [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    f = f_oneway(*(values[group] for group in groups)).statistic
    size = (9 - (9 + 4 + 16) / 9) / 2
    assert share_between(values, groups) == pytest.approx((f - 1) / (f + size - 1))
    alike = np.array([0.0, 1.0, 0.1, 0.9])  # recipes differ by less than chance has them
    assert share_between(alike, [[0, 1], [2, 3]]) == 0
    assert share_between(values, [range(9)]) is None, "one recipe"
    assert share_between(values[:3], [[0], [1], [2]]) is None, "one seed each"
    assert share_between(values[:3], [[0], [1, 2]]) is not None


def test_an_interval_is_the_middle_of_the_resamples_where_nine_in_ten_are_defined() -> None:
    drawn = np.linspace(0, 1, 1001)
    assert interval(0.5, drawn) == Interval(0.5, 0.025, 0.975)
    lacking = np.where(np.arange(1000) < 100, np.nan, 0.25)
    assert interval(0.5, lacking) == Interval(0.5, 0.25, 0.25)
    lacking[100] = np.nan
    assert interval(0.5, lacking) == Interval(0.5)
    assert interval(np.nan, drawn) == Interval(None)


def test_means_of_few_seeds_vary_as_those_of_an_unbiased_variance() -> None:
    """Of k values the mean of k draws varies by (k - 1) / k too little."""
    values = np.array([0.0, 1.0, 5.0, 2.0, 3.0, 7.0])
    draws = Resamples.draw([[0, 1], [2, 3, 4], [5]], sources=3, count=100_000)
    means, drawn = draws.by_model(values)
    assert means is values
    found = drawn.var(0)
    expected = [values[:2].var(ddof=1) / 2, values[2:5].var(ddof=1) / 3, 0]
    assert found == pytest.approx(expected, rel=0.03)
    assert drawn.mean(0) == pytest.approx(draws.means(values), abs=0.02)


@pytest.mark.parametrize("n", range(5, 40))
def test_beside_what_is_held_fixed_nothing_is_left_of_a_monotone_one(n: int) -> None:
    x, y = np.random.default_rng(n).standard_normal((2, n))
    for same in (x, -x, np.exp(x)):
        assert np.isnan(spearman(same, y, given=x))
        assert np.isnan(spearman(y, same, given=x))


def test_a_correlation_takes_four_recipes_and_five_with_one_held_fixed() -> None:
    for count, plain, partial in ((3, False, False), (4, True, False), (5, True, True)):
        names = "abcde"[:count]
        columns = {
            "kl": {name: [i * 7 % 5 + 0.0] * 2 for i, name in enumerate(names)},
            "squared_error": {name: [i * 3 % 5 + 0.0] * 2 for i, name in enumerate(names)},
        }
        study = made({name: [i / 10] * 2 for i, name in enumerate(names)}, **columns)
        assert (study.correlation("kl").value is not None) == plain
        assert (study.correlation("kl", given="squared_error").value is not None) == partial


def test_recipes_that_lack_the_column_are_left_out_with_their_single_seed() -> None:
    areas = {name: [i / 10, i / 10 + 0.01] for i, name in enumerate("abcd")}
    study = made(areas, kl={name: [float(i)] * 2 for i, name in enumerate("abcd")})
    spec = Spec.model_validate(TINY | {"recipes": {n: {"family": "vae"} for n in "abcde"}})
    more = study.model_copy(update={"rows": (*study.rows, a_row("e")), "spec": spec})
    found = more.correlation("kl")
    assert found.value == 1
    assert found.low is not None
    counted = more.model_copy(update={"rows": (*study.rows, a_row("e", kl=4.0))})
    assert counted.correlation("kl").value is not None
    assert counted.correlation("kl").low is None


def test_one_seed_has_an_interval_over_sources_alone() -> None:
    kl = {"a": [1.0], "b": [2.0, 3.0]}
    study = made({"a": [0.1], "b": [0.4, 0.5]}, kl=kl)
    areas, means = study.means("robust_area"), study.means("kl")
    assert areas["a"].low is not None
    assert means["a"] == Interval(1.0)
    assert means["b"].low is not None
    assert study.difference("b", "a").low is None
    assert study.difference("a", "b").value == pytest.approx(-0.35)


def test_what_was_measured_of_a_code_by_another_version_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "of_code", lambda *_: {"mig": 0.5})
    measured = (tmp_path, genrobust.load_model("vae"), "digits", None)
    (tmp_path / "code.json").write_text(json.dumps({"version": score.VERSION - 1, "mig": 0.1}))
    assert score.code_scores(*measured) == {"mig": 0.5}
    monkeypatch.setattr(score, "of_code", lambda *_: pytest.fail("it is kept"))
    assert score.code_scores(*measured) == {"mig": 0.5}


def test_a_row_holds_what_its_bench_and_its_card_say(repository: Path) -> None:
    bench = repository / "leaderboard/entries/digits-v2/zoo-vae"
    record = genrobust.Record.load(bench)
    card = zoo_card("vae", "digits")
    assert card is not None
    assert record.scores.robust_area is not None
    row = score.row_of("mine", card, record, bench, {"mig": 0.25})
    assert row.metrics["robust_area"] == pytest.approx(record.scores.robust_area.value)
    assert row.metrics["clean_accuracy"] == record.scores.clean_accuracy.value
    assert (row.metrics["kl"], row.metrics["mig"]) == (card.metrics["kl"], 0.25)
    metrics = {name: x for name, x in card.metrics.items() if name != "elbo"} | {"kl": 0.0}
    points = card.model_copy(update={"metrics": metrics})
    assert score.row_of("mine", points, record, bench, {}).metrics["kl"] is None


def test_latents_of_points_are_not_said_to_be_inactive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "DISENTANGLEMENT", {})
    vae = genrobust.load_model("vae")
    points = genrobust.wrap(vae.module, encode=lambda x: vae.encode(x).mode(), decode=vae.decode)
    assert score.of_code(vae, "digits")["active_latents"] > 0
    assert score.of_code(points, "digits") == {}


@pytest.mark.parametrize(("off", "fine"), [(0.9e-5, True), (1.1e-5, False)])
def test_a_rows_area_is_the_mean_of_its_sources(off: float, fine: bool) -> None:
    row = a_row("a", area=0.5).model_dump()
    row["metrics"]["robust_area"] += off
    if fine:
        Row.model_validate(row)
        return
    with pytest.raises(ValueError, match="robust_area is not the mean over the sources"):
        Row.model_validate(row)


@pytest.mark.slow
def test_factors_are_those_of_the_pictures() -> None:
    found = known_factors("sprites")
    assert torch.equal(found["shape"], SPRITES.load("test", None).labels)
    assert known_factors("sprites?shape=1x32x32").keys() == found.keys()
    assert known_factors("sprites?shape=1x32x32&draw=10") == {}
    digits = known_factors("digits")
    assert [len(values.unique()) for values in digits.values()] == [10, 5, 5]


def test_results_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(GenrobustError, match="cannot be read as a study's results"):
        genrobust.study.load(tmp_path)
    made({"a": [0.1]}).save(tmp_path)
    content = json.loads((tmp_path / "study.json").read_text())
    content["rows"][0]["metrics"]["robust_area"] = 0.9
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(GenrobustError, match="robust_area is not the mean over the sources"):
        genrobust.study.load(tmp_path)


def test_a_study_does_not_take_the_page_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made({"a": [0.1]}).save(tmp_path)
    there = files.read_text(tmp_path / "study.json")
    other = Conductor(Spec.model_validate(TINY | {"name": "other"}), tmp_path)
    for write in (other.run, other.write):
        with pytest.raises(GenrobustError, match=r"holds the study '.*'other'; give .*--out"):
            write()
    assert {path.name for path in tmp_path.iterdir()} == {"study.json", "table.csv"}
    assert files.read_text(tmp_path / "study.json") == there
    files.write_text(tmp_path / "study.json", there[:-9])  # cut short: no page of anybody
    monkeypatch.setattr(Conductor, "row", lambda self, one: a_row(one.label))
    assert other.write().rows
    trial = Conductor(other.spec.fast(), tmp_path)
    with pytest.raises(GenrobustError, match="holds the study 'other'"):
        trial.write()
    (tmp_path / "study.json").unlink()
    trial.write()
    other.write()  # what a trial left makes room


@pytest.mark.parametrize(
    ("version", "changes", "earlier"),
    [("0.0.9", {}, "the spec as it was and genrobust 0.0.9"), (None, {"limit": 3}, "as it was$")],
)
def test_a_table_makes_no_room_for_an_emptier_one_without_a_word(
    version: str | None,
    changes: dict[str, Any],
    earlier: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = Spec.model_validate(TINY)
    with monkeypatch.context() as then:
        if version is not None:
            then.setattr(conduct, "__version__", version)
        done = Conductor(spec, tmp_path)
        for one in done.trainings:
            files.write_text(done._row_file(one), a_row(one.label).model_dump_json())
        there = done.write()
    now = Conductor(Spec.model_validate(TINY | changes), tmp_path)
    with pytest.raises(GenrobustError, match=f"holds no model of the study 'tiny' .*{earlier}"):
        now.write()

    def fails(*_: Any) -> None:
        raise GenrobustError("no room")

    monkeypatch.setattr(Conductor, "_untrained", fails)
    monkeypatch.setattr(Conductor, "_score", fails)
    monkeypatch.setattr(Conductor, "_todo", [])
    with (
        pytest.warns(GenrobustWarning, match="of the 2 models .* 2 no longer count"),
        pytest.warns(GenrobustWarning, match="left out"),
        pytest.raises(GenrobustError, match="no model of the study 'tiny' could be scored"),
    ):
        now.run()
    assert genrobust.study.load(tmp_path) == there
    files.write_text(now._row_file(now.trainings[0]), a_row("vae", area=0.2).model_dump_json())
    with pytest.warns(GenrobustWarning, match="of the 2 models .* 2 no longer .*--collect does"):
        assert len(now.write().rows) == 1


def test_a_bench_whose_record_is_lost_is_done_and_says_nothing_of_time(tmp_path: Path) -> None:
    conductor = Conductor(Spec.model_validate(TINY), tmp_path)
    for one in conductor.trainings:
        files.write_text(conductor._row_file(one), a_row(one.label).model_dump_json())
    found = conductor.remaining()
    assert (found.models, found.todo, found.seconds) == (2, 0, 0)


@pytest.mark.slow
def test_seeds_are_as_many_single_trainings(tmp_path: Path) -> None:
    base = ["train", "--model", "vae", "--set", "steps=3"]
    every = CliRunner().invoke(app, [*base, "--seeds", "2", "--out", str(tmp_path / "many")])
    assert every.exit_code == 0
    assert "over 2 seeds: elbo" in every.stdout
    CliRunner().invoke(app, [*base, "--seed", "1", "--out", str(tmp_path / "one")])
    name = "vae.safetensors"
    one = (tmp_path / "one" / name).read_bytes()
    assert (tmp_path / "many" / "seed-1" / name).read_bytes() == one
    assert (tmp_path / "many" / "seed-0" / name).read_bytes() != one
    again = CliRunner().invoke(app, [*base, "--seeds", "2", "--out", str(tmp_path / "many")])
    assert again.stdout == every.stdout


@pytest.mark.slow
def test_a_study_drawn_from_a_data_set_of_factors(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(
        'name = "small"\ndataset = "sprites"\nsources = 4\neps = [0.05, 0.1]\nseeds = 2\n'
        "settings.steps = 3\n[recipes.vae]\n"
    )
    out = ["--out", str(tmp_path / "out")]
    planned = CliRunner().invoke(app, ["study", str(path), "--fast", "--dry-run", *out])
    assert planned.exit_code == 0, planned.output
    assert "0 of 2 models are done, 2 to train" in planned.stdout
    assert not (tmp_path / "out").exists()
    refused = CliRunner().invoke(app, ["study", str(path), "--executor", "nobody", *out])
    assert refused.exit_code == 2
    assert "unknown executor 'nobody'" in refused.stderr
    for part, executor in (("1/2", "threads"), ("2/2", "processes")):
        how = ["--fast", "--shard", part, "--executor", executor, "--workers", "1"]
        found = CliRunner().invoke(app, ["study", str(path), *how, *out])
        assert found.exit_code == 0, found.output
    study = genrobust.study.load(tmp_path / "out")
    assert len(study.rows) == 2
    assert study.factors == ("shape", "scale", "orientation", "x", "y")
    assert study.rows[0].metrics["dci_disentanglement"] is not None
    frame = study.to_pandas()
    assert len(frame) == 2
    assert frame["robust_area"].notna().all()
