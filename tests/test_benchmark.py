"""The runner end to end: what it scores, what it keeps, what it does again."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import jsonschema
import pytest
import torch
from diagnosed import sound
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models import load_model
from genrobust.models.wrapping import adapt
from genrobust.outcomes.outcome import DAMAGE, GOALS, Outcome
from genrobust.outcomes.scores import mean
from genrobust.outcomes.scores import scores as scores_of
from genrobust.records.record import Record
from genrobust.runner.adjusted import adjusted
from genrobust.runner.options import Options
from genrobust.suites import Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")

KEPT = ("latent", "noise", "nearest", "square")


def comparable(folder: Path) -> str:
    """The record's text without its times."""
    record = json.loads((folder / "record.json").read_text())
    del record["times"]
    return json.dumps(record)


@pytest.fixture(scope="module")
def small_suite(small_suite: Suite) -> Suite:
    """With attacks of three kinds, and of both goals."""
    kept = tuple(one for one in small_suite.attacks if one.attack in KEPT)
    judge = load_suite("digits-v1").attacker_judge  # not the whole committee
    return small_suite.model_copy(update={"attacks": kept, "attacker_judge": judge})


@pytest.fixture(scope="module")
def finished(small_suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    genrobust.bench("jointvae", small_suite, out=folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def noise(small_suite: Suite) -> Suite:
    """Three shards that are quickly done."""
    suite = small_suite.limited(3).with_attacks(["noise"])
    return suite.model_copy(update={"chunk_size": 1})


@pytest.fixture(scope="module")
def finished_noise(noise: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    genrobust.bench("vae", noise, out=folder, workers=1)
    return folder


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}


def test_the_record_follows_its_published_schema(finished: Path) -> None:
    record = json.loads((finished / "record.json").read_text())
    jsonschema.validate(record, Record.model_json_schema())
    assert Record.model_validate_json((finished / "record.json").read_text()).schema_version == 3


def test_scores_hang_together(finished: Path) -> None:
    record = Record.model_validate_json((finished / "record.json").read_text())
    scores = record.scores
    assert scores.sources == 4
    assert scores.clean_accuracy.n == 4
    robust = [at.robust_accuracy.value for at in scores.per_eps]
    assert robust == sorted(robust, reverse=True)
    for at in scores.per_eps:
        assert at.as_ignore_target is not None
        assert at.as_target is not None
        standing = scores.eligible * (1 - at.as_ignore_target.value)
        assert at.robust_accuracy.value == pytest.approx(standing / scores.sources)
        assert at.as_target.value <= at.as_ignore_target.value
        assert at.robust_accuracy.low <= at.robust_accuracy.value <= at.robust_accuracy.high
        assert sum(n for row in at.as_target_pairs.n for n in row) == scores.eligible
        assert at.linf is None or at.linf <= at.eps + 1e-6
    assert record.backwards == sum(attack.backwards for attack in record.attacks)


def test_every_adversarial_image_is_inside_the_threat_model(
    finished: Path, small_suite: Suite
) -> None:
    from genrobust.files import read_tensors

    for path in (finished / "shards").iterdir():
        tensors, _ = read_tensors(path)
        eps = torch.tensor([*small_suite.eps, 0.0])
        for goal in ("ignore", "target"):
            images, radius = tensors[f"{goal}.x_adv"], tensors[f"{goal}.radius"]
            assert images.min() >= 0
            assert images.max() <= 1
            moved = (images - tensors["source"]).flatten(1).abs().amax(1)
            assert (moved <= eps[radius] + 1e-6).all()


def test_stored_reconstructions_are_those_of_the_deployed_path(finished: Path) -> None:
    from genrobust.files import read_tensors

    model = load_model("jointvae")
    tensors, _ = read_tensors(next((finished / "shards").iterdir()))
    again = model.reconstruct(tensors["ignore.x_adv"])
    torch.testing.assert_close(again, tensors["ignore.reconstruction"], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_no_byte(
    finished: Path, small_suite: Suite, tmp_path: Path, workers: int
) -> None:
    genrobust.bench("jointvae", small_suite, out=tmp_path, workers=workers)
    assert comparable(tmp_path) == comparable(finished)


def test_a_second_run_computes_nothing(finished: Path, small_suite: Suite, monkeypatch) -> None:
    def fail(*args: object) -> None:
        raise AssertionError("a shard that was done was computed again")

    monkeypatch.setattr("genrobust.runner.task.run_shard", fail)
    before = shards(finished)
    genrobust.bench("jointvae", small_suite, out=finished)
    assert shards(finished) == before


def test_a_damaged_shard_is_computed_again_with_a_warning(
    finished_noise: Path, noise: Suite, tmp_path: Path
) -> None:
    (tmp_path / "shards").mkdir()
    names = shards(finished_noise)
    for harm, (name, whole) in zip(("truncated", "flipped", "emptied"), names.items(), strict=True):
        content = bytearray(whole)
        if harm == "flipped":
            content[-100] ^= 0x40
        kept = {"truncated": len(content) - 200, "flipped": len(content), "emptied": 0}[harm]
        (tmp_path / "shards" / name).write_bytes(content[:kept])
    with pytest.warns(GenrobustWarning, match="computed again") as told:
        genrobust.bench("vae", noise, out=tmp_path)
    again = [str(one.message) for one in told if "computed again" in str(one.message)]
    assert all(any(name in text for text in again) for name in names), again
    assert shards(tmp_path).keys() == names.keys()
    assert comparable(tmp_path) == comparable(finished_noise)


def test_another_seed_or_model_does_not_reuse_shards(
    finished_noise: Path, noise: Suite, tmp_path: Path
) -> None:
    noise = noise.limited(1)
    one = genrobust.bench("jointvae", noise, seed=1, out=tmp_path)
    with pytest.warns(GenrobustWarning, match="holds results of another model"):
        two = genrobust.bench("vae", noise, seed=1, out=tmp_path)
    (name,) = (path.name for path in (tmp_path / "shards").iterdir())
    assert [f"{key}.safetensors" for key in two.provenance.shards] == [name]
    assert set(one.provenance.shards).isdisjoint(two.provenance.shards)
    assert name not in shards(finished_noise)


def test_a_limit_makes_the_record_unofficial(small_suite: Suite) -> None:
    record = genrobust.bench("vae", small_suite, limit=1, attacks=["noise"], eps=[0.01])
    assert not record.official
    assert len(record.deviations) == 4
    own = ("a suite of one's own", "attacks noise in place of the suite's")
    assert adjusted(small_suite, Options(limit=600, attacks=("noise",)))[1] == own


def test_another_norm_converts_the_suites_radii_and_takes_ones_own_as_they_are(
    small_suite: Suite,
) -> None:
    noise = small_suite.limited(1).with_attacks(["noise"])
    record = genrobust.bench("vae", noise, norm="l2")
    assert record.suite.norm == "l2"
    assert record.suite.eps == pytest.approx([32 * eps for eps in small_suite.eps])
    assert record.deviations[1:] == ("the norm l2 in place of the suite's",)
    assert "--norm l2" in record.provenance.command
    assert adjusted(noise, Options(norm="l2", eps=(0.5,)))[0].eps == (0.5,)
    assert noise.with_norm("l2").with_norm("linf").eps == pytest.approx(noise.eps)
    assert noise.with_norm("linf") == noise
    with pytest.raises(GenrobustError, match=r"unknown norm 'l3'.* Known: l2, linf"):
        genrobust.bench("vae", noise, norm="l3")
    with pytest.raises(GenrobustError, match=r"LinfPGD.*linf"):
        genrobust.bench("vae", noise, norm="l2", attacks=["foolbox:LinfPGD"])


def test_only_a_whole_registered_suite_is_official(small_suite: Suite) -> None:
    assert adjusted(load_suite("digits"), Options())[1] == ()
    assert adjusted(load_suite("digits"), Options(limit=500))[1] == ()
    assert adjusted(load_suite("digits"), Options(limit=5))[1] != ()
    assert adjusted(small_suite, Options())[1] == ("a suite of one's own",)


def test_noise_alone_hardly_changes_a_class(small_suite: Suite) -> None:
    record = genrobust.bench("vae", small_suite, limit=2, attacks=["noise"], eps=[0.0, 0.02])
    at_zero = record.scores.per_eps[0]
    assert at_zero.as_ignore_target is not None
    assert at_zero.as_ignore_target.value == 0
    assert at_zero.robust_accuracy.value == record.scores.eligible / record.scores.sources


class Constant(nn.Module):
    """Reconstructs every image as one image of class 0: nothing is eligible but zeros."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        images = genrobust.load_images("digits", "test")
        self.image = nn.Parameter(images.take([0]))

    def encode(self, x: Tensor) -> Tensor:
        return 1e-3 * x.flatten(1)[:, :4]

    def decode(self, z: Tensor) -> Tensor:
        return (self.image + 1e-3 * z.sum(1).view(-1, 1, 1, 1)).clamp(0, 1)


def test_a_model_that_reconstructs_nothing_right_scores_zero(small_suite: Suite) -> None:
    images = genrobust.load_images("digits", "test")
    others = [i for i in small_suite.sample_ids if images.labels[i] != images.labels[0]]
    suite = small_suite.model_copy(
        update={"sample_ids": tuple(others), "target_ids": (0,) * len(others)}
    )
    record = genrobust.bench(Constant(), suite)
    assert record.scores.eligible == 0
    assert record.scores.clean_accuracy.value == 0
    assert all(at.robust_accuracy.value == 0 for at in record.scores.per_eps)
    assert all(at.as_ignore_target is None for at in record.scores.per_eps)
    assert record.backwards == 0


class NanOnChange(nn.Module):
    """Sound on the sources, NaN as soon as a black pixel is touched."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.inner = load_model("vae").module

    def encode(self, x: Tensor) -> object:
        return self.inner.encode(torch.where(x[:, :, :1, :1] > 0, torch.nan, x))  # type: ignore[operator]

    def decode(self, z: Tensor) -> Tensor:
        return self.inner.decode(z)  # type: ignore[operator]


def test_nan_under_attack_is_an_error_that_names_the_samples(
    small_suite: Suite, tmp_path: Path
) -> None:
    with pytest.raises(GenrobustError, match=r"NaN or infinite.*sample ids"):
        genrobust.bench(adapt(NanOnChange()), small_suite, out=tmp_path)
    assert not (tmp_path / "record.json").exists()


def test_an_unwritable_folder_is_found_before_computing(
    small_suite: Suite, tmp_path: Path, monkeypatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr("genrobust.runner.task.run_shard", lambda *a: pytest.fail("computed"))
    with pytest.raises(GenrobustError, match="cannot write"):
        genrobust.bench("vae", small_suite, out=blocked / "out")


def test_a_full_disk_leaves_nothing_half_written(noise: Suite, tmp_path: Path, monkeypatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(GenrobustError, match="No space left"):
        genrobust.bench("vae", noise, out=tmp_path / "out")
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


def test_a_suite_with_other_judges_or_data_is_refused(small_suite: Suite) -> None:
    other = small_suite.attacker_judge.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(GenrobustError, match="judge"):
        genrobust.bench("vae", small_suite.model_copy(update={"attacker_judge": other}))
    with pytest.raises(GenrobustError, match="not those of the suite"):
        genrobust.bench("vae", small_suite.model_copy(update={"data_sha256": "0" * 64}))


def test_a_model_of_another_size_is_refused(small_suite: Suite) -> None:
    from genrobust.models.networks import NetworkSpec, initialised

    small = genrobust.wrap(initialised(NetworkSpec(input_shape=(1, 16, 16)), 0))
    with pytest.raises(GenrobustError, match="choose a suite of such images, or resize inside"):
        genrobust.bench(small, small_suite)


def test_scores_of_hand_made_outcomes() -> None:
    """Four sources of classes 0 and 1; every figure below is counted by hand."""
    yes, no = True, False
    x = torch.zeros(4, 1, 1, 2)
    x_adv = x.clone()
    x_adv[1] = torch.tensor([0.3, 0.4])
    tensors = {
        "label": torch.tensor([0, 0, 1, 1]),
        "target_label": torch.tensor([1, 1, 0, 0]),
        "input_verdict": torch.tensor([0, 0, 1, 1]),
        "clean_verdict": torch.tensor([0, 0, 1, -1]),
        "eligible": torch.tensor([yes, yes, yes, no]),
        "source": x,
        "reconstruction": x + torch.tensor([0.5, 0.0]),
        "kl": torch.tensor([1.0, 2.0, 3.0, 6.0]),
        "mean": torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]),
        "ignore.radius": torch.tensor([1, 0, 1, 1]),
        "target.radius": torch.tensor([1, 1, 1, 1]),
        "ignore.x_adv": x_adv,
        "ignore.reconstruction": x + torch.tensor([0.5, 0.0]) + x_adv,
        "ignore.source_similarity": torch.tensor([0.0, 0.75, 0.0, 0.0]),
        "ignore.reconstruction_similarity": torch.tensor([0.0, 0.5, 0.0, 0.0]),
        "ignore.displacement": torch.tensor([9.0, 2.0, 9.0, 9.0]),
        "ignore.symmetric_kl": torch.full((4,), torch.nan),
    }
    zeros, unused = torch.zeros(4), {"perturbation": x_adv, "verdict": torch.zeros(4)}
    tensors = {
        **{n: zeros for n in Outcome.table() if DAMAGE not in n},
        **sound(4, 1),
        **{f"{goal}.{name}": tensor for goal in GOALS for name, tensor in unused.items()},
        **tensors,
    }
    suite = genrobust_suite().model_copy(update={"eps": (0.5,)})
    scores = scores_of(Outcome.of(tensors), suite)
    at = scores.per_eps[0]
    assert (scores.sources, scores.eligible, scores.clean_accuracy.value) == (4, 3, 0.75)
    assert scores.reconstruction_error.value == pytest.approx(0.25)
    assert at.robust_accuracy.value == 0.5
    assert scores.robust_area is not None
    assert scores.robust_area.value == pytest.approx((0.75 + 0.5) / 2)
    assert scores.eps50 is None  # two of three eligible ones still stand at the largest radius
    assert at.as_ignore_target is not None
    assert at.as_ignore_target.value == pytest.approx(1 / 3)
    assert at.as_ignore_target_macro == pytest.approx((1 / 2 + 0) / 2)
    assert [row[:2] for row in at.as_ignore_target_pairs.rate[:2]] == [(None, 0.5), (0.0, None)]
    assert [row[:2] for row in at.as_ignore_target_pairs.n[:2]] == [(0, 2), (1, 0)]
    assert (scores.kl.value, scores.total_correlation) == (3, 0)
    assert at.reconstruction_shift == pytest.approx(0.5)
    assert (at.source_similarity, at.reconstruction_similarity) == (0.75, 0.5)
    assert (at.latent_displacement, at.symmetric_kl) == (2, None)
    assert at.as_target_of_wrong == 0
    assert at.linf == pytest.approx(0.4)
    assert at.l2 == pytest.approx(0.5)


def genrobust_suite() -> Suite:
    return load_suite("digits")


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    suite = genrobust_suite().model_copy(update={"resamples": 300})
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):
        estimate = mean(torch.rand(100, generator=generator) < 0.4, suite)
        covered += estimate.low <= 0.4 <= estimate.high
    assert 180 <= covered <= 198


def test_no_warning_without_damage(finished: Path, small_suite: Suite) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        genrobust.bench("jointvae", small_suite, out=finished)
