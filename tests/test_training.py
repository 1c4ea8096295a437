"""Training: exact resumption, honest logs and cards, losses by their formulas."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genrobust
from genrobust import files
from genrobust.errors import GenrobustError
from genrobust.judges import Panel, load_judge
from genrobust.judges.judge import NO_VERDICT, Judge
from genrobust.judges.load import _shipped
from genrobust.judges.networks import ARCHITECTURES
from genrobust.models.card import Card
from genrobust.models.families import FAMILIES
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.models.weights import load_state_dict, read_state_dict
from genrobust.posterior import Categorical, Gaussian, Point, Posterior
from genrobust.seeding import generator
from genrobust.training.augment import blur_and_noise, move
from genrobust.training.judge import train_judge
from genrobust.training.losses import Beta, Capacity
from genrobust.training.recipes import Recipe, recipe
from genrobust.training.vae import evaluate, train_vae


class KilledError(Exception):
    """Stands for a kill signal."""


def stop_at(step: int) -> Callable[[int, float], None]:
    def on_step(now: int, loss: float) -> None:
        if now == step:
            raise KilledError

    return on_step


def tiny(**change: Any) -> Recipe:
    update = {"steps": 6, "batch_size": 8, **change}
    return recipe("jointvae", "digits").model_copy(update=update)


def run(out: Path, plan: Recipe | None = None, **more: Any) -> Card:
    arguments = {"log_every": 1, "checkpoint_every": 2, **more}
    return train_vae("tiny", "digits", plan or tiny(), out, **arguments)


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without a stop."""
    out = tmp_path_factory.mktemp("straight")
    run(out)
    return out


# Resumption


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(1,), (5,), (3, 5), (4, 6)])
def test_a_killed_run_ends_with_the_weights_it_would_have_had(
    stops: tuple[int, ...], straight: Path, tmp_path: Path
) -> None:
    for step in stops:
        with pytest.raises(KilledError):
            run(tmp_path, on_step=stop_at(step))
        assert not (tmp_path / "tiny.safetensors").exists()
    run(tmp_path)
    for name in ("tiny.safetensors", "tiny.json", "log.jsonl"):
        assert (tmp_path / name).read_bytes() == (straight / name).read_bytes(), name
    (ours, step), (theirs, _) = (
        files.read_tensors(folder / "checkpoint.safetensors") for folder in (tmp_path, straight)
    )
    assert step["step"] == "6"
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_resumed_run_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, on_step=stop_at(5))
    steps: list[int] = []
    run(tmp_path, on_step=lambda step, loss: steps.append(step))
    assert steps == [5, 6]


def test_a_kill_between_log_and_checkpoint_repeats_no_line(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = files.write_tensors, []

    def fail_once(*args: Any) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise KilledError
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_tensors", fail_once)
        with pytest.raises(KilledError):
            run(tmp_path)
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3, 4]
    run(tmp_path)
    assert log_of(tmp_path) == log_of(straight)


def test_a_finished_run_is_not_trained_again(straight: Path, tmp_path: Path) -> None:
    run(tmp_path)
    card = run(tmp_path, on_step=stop_at(1))
    assert (
        card.weights_sha256
        == Card.model_validate_json((straight / "tiny.json").read_text()).weights_sha256
    )


def test_every_step_is_logged_once_with_finite_numbers(straight: Path) -> None:
    lines = log_of(straight)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert len(line["kl_per_latent"]) == 11  # ten Gaussians and one categorical
        assert line["loss"] >= line["bce"] > 0
        assert set(line["capacity"]) == {"gaussian", "categorical"}
        assert all(math.isfinite(kl) and kl > -1e-4 for kl in line["kl_per_latent"])


def test_the_log_may_be_sparser_than_the_steps_and_has_the_last(tmp_path: Path) -> None:
    run(tmp_path, log_every=4, checkpoint_every=100)
    assert [line["step"] for line in log_of(tmp_path)] == [4, 6]


@pytest.mark.parametrize(
    "change",
    [{"plan": tiny(learning_rate=1e-4)}, {"seed": 1}, {"plan": tiny(penalty=Beta())}],
    ids=["recipe", "seed", "loss"],
)
def test_another_runs_checkpoint_is_refused_and_kept(
    change: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, on_step=stop_at(3))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(GenrobustError, match=r"checkpoint of another run .* another --out"):
        run(tmp_path, **change)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_a_truncated_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(tmp_path, on_step=stop_at(3))
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(GenrobustError, match=r"cannot be read .* delete it to start afresh"):
        run(tmp_path)


def test_a_run_depends_on_its_seed_and_not_on_the_global_generator(
    straight: Path, tmp_path: Path
) -> None:
    torch.manual_seed(12345)
    run(tmp_path / "again")
    again = (tmp_path / "again" / "tiny.safetensors").read_bytes()
    assert again == (straight / "tiny.safetensors").read_bytes()
    run(tmp_path / "other", seed=1)
    assert (tmp_path / "other" / "tiny.safetensors").read_bytes() != again


# What is written


def test_the_card_is_that_of_the_weights_beside_it(straight: Path) -> None:
    card = Card.model_validate_json((straight / "tiny.json").read_text())
    state = read_state_dict(straight / "tiny.safetensors")
    assert card.weights_sha256 == files.sha256_of_tensors(state)
    assert card.parameters == sum(tensor.numel() for tensor in state.values())
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert (card.name, card.kind, card.dataset) == ("tiny", "vae", "digits")
    assert (card.steps, card.seed) == (6, 0)
    assert card.genrobust_version == genrobust.__version__
    test = genrobust.load_images("digits", "test")
    assert card.test_sha256 == test.sha256

    network = initialised(NetworkSpec.model_validate(card.architecture), seed=99)
    load_state_dict(network, state, "tiny")
    assert evaluate(network, test, seed=0) == card.metrics


def test_the_recipe_can_be_read_back_from_the_card(straight: Path) -> None:
    card = Card.model_validate_json((straight / "tiny.json").read_text())
    assert Recipe.model_validate({"network": card.architecture, **card.recipe}) == tiny()


def test_the_written_weights_load_as_a_zoo_model(straight: Path) -> None:
    model = genrobust.load_model("jointvae", "digits", straight / "tiny.safetensors")
    assert model.reconstruct(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32)


def test_the_metrics_are_those_of_the_deployed_reconstruction() -> None:
    network = initialised(NetworkSpec(gaussian=3, categorical=(4,)), seed=0)
    test = genrobust.load_images("digits", "test")
    found = evaluate(network, test, seed=0, batch_size=250)
    x = test.take(range(len(test)))
    with torch.no_grad():
        posterior = network.encode(x)
        image = network.decode(posterior.mode())
        kl = posterior.kl_to_prior().sum(1).mean()
    bce = -(x * image.log() + (1 - x) * (1 - image).log()).flatten(1).sum(1).mean()
    error = ((image - x) ** 2).flatten(1).sum(1).mean()
    assert found["bce"] == pytest.approx(float(bce), rel=1e-4)
    assert found["squared_error"] == pytest.approx(float(error), rel=1e-4)
    assert found["kl"] == pytest.approx(float(kl), abs=2e-4)
    assert -found["elbo"] >= found["kl"]
    assert -found["elbo"] == pytest.approx(found["bce"] + found["kl"], rel=0.02)


@pytest.mark.parametrize("augment", [False, True])
def test_the_loss_falls(augment: bool, tmp_path: Path) -> None:
    losses: list[float] = []
    network = NetworkSpec(layers="dense")
    plan = Recipe(network=network, penalty=Beta(), steps=60, batch_size=16, augment=augment)
    run(tmp_path, plan, on_step=lambda _, loss: losses.append(loss), checkpoint_every=1000)
    assert len(losses) == 60
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("steps", [1, 20], ids=["in the last step", "on the way"])
def test_a_loss_that_is_no_number_ends_the_run_with_a_clear_error(
    steps: int, tmp_path: Path
) -> None:
    with pytest.raises(GenrobustError, match=r"loss is .* at step .* --set learning_rate=1e\+19"):
        run(tmp_path, tiny(learning_rate=1e20, steps=steps))
    assert not (tmp_path / "tiny.safetensors").exists()


class OneImage:
    name = "one-image-of-this-test"
    classes = ("blob",)
    image_shape = (1, 32, 32)

    def load(self, split: str, root: Path | None) -> genrobust.data.Images:
        blob = torch.linspace(0, 1, 1024).view(1, 1, 32, 32)
        return genrobust.data.Images(blob, torch.zeros(1, dtype=torch.int64), (32, 32))


@pytest.mark.parametrize("augment", [False, True])
def test_every_step_draws_noise_of_its_own(augment: bool, tmp_path: Path) -> None:
    genrobust.data.DATASETS.register(OneImage.name)(OneImage())
    plan = Recipe(
        network=NetworkSpec(), penalty=Beta(), steps=5, learning_rate=1e-30, augment=augment
    )
    losses: list[float] = []
    try:
        train_vae("one", OneImage.name, plan, tmp_path, on_step=lambda _, x: losses.append(x))
    finally:
        genrobust.data.DATASETS._registered.pop(OneImage.name)
    assert len(set(losses)) == 5  # nothing but the noise differs


def test_an_epoch_shows_every_image_at_most_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    take = genrobust.data.Images.take

    def spy(self: Any, ids: Any) -> Tensor:
        taken.extend(torch.as_tensor(ids).tolist())
        return take(self, ids)

    monkeypatch.setattr(genrobust.data.Images, "take", spy)
    network = NetworkSpec(gaussian=2, layers="dense")
    run(tmp_path, tiny(network=network, steps=6, batch_size=500), checkpoint_every=100)
    epochs = [taken[i : i + 1000] for i in (0, 1000, 2000)]  # 1,198 images: two batches each
    assert all(len(set(epoch)) == 1000 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dataset", ["digits", "mnist", "another"])
def test_every_family_has_a_recipe_for_every_dataset(family: str, dataset: str) -> None:
    found = recipe(family, dataset)
    assert found.augment == (dataset == "digits")
    assert bool(found.network.categorical) == (family == "jointvae")


def test_an_unknown_family_suggests_the_nearest() -> None:
    with pytest.raises(GenrobustError, match="unknown model 'betave'; did you mean 'betavae'"):
        recipe("betave", "digits")


# Losses


def posterior(gaussian_kl: float, probability: float) -> Posterior:
    """Two images, each with the KLs of one Gaussian and of one 4-way categorical.

    The categorical gives ``probability`` to one class and shares the rest out.
    """
    mean = torch.tensor([[math.sqrt(2 * gaussian_kl)]] * 2, dtype=torch.float64)
    rest = (1 - probability) / 3
    logits = torch.tensor([[probability, rest, rest, rest]] * 2, dtype=torch.float64).log()
    return Posterior((Gaussian(mean, torch.zeros_like(mean)), Categorical(logits)))


def categorical_kl(probability: float) -> float:
    rest = (1 - probability) / 3
    return math.log(4) + probability * math.log(probability) + 3 * rest * math.log(rest)


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_beta_penalty_is_beta_times_the_mean_kl(beta: float) -> None:
    q = posterior(2.5, 0.7)
    expected = beta * (2.5 + categorical_kl(0.7))
    assert float(Beta(beta=beta)(q, step=3)) == pytest.approx(expected)
    assert Beta().capacities(q, 3) == {}


def test_the_beta_penalty_averages_over_images_and_sums_over_latents() -> None:
    mean = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    q = Posterior((Gaussian(mean, torch.zeros(2, 2)),))
    assert float(Beta(beta=2)(q, 0)) == pytest.approx(2 * (0.5 * (1 + 4 + 9)) / 2)


@pytest.mark.parametrize(
    ("step", "gaussian", "categorical"),
    [(0, 0, 0), (50, 2.5, 0.5), (100, 5, 1), (1000, 5, 1)],
)
def test_the_capacity_penalty_is_gamma_times_the_distance_to_a_rising_capacity(
    step: int, gaussian: float, categorical: float
) -> None:
    penalty = Capacity(gamma=30, gaussian=5, categorical=1, ramp_steps=100)
    q = posterior(3.0, 0.8)
    assert penalty.capacities(q, step) == pytest.approx(
        {"gaussian": gaussian, "categorical": categorical}
    )
    expected = 30 * (abs(3.0 - gaussian) + abs(categorical_kl(0.8) - categorical))
    assert float(penalty(q, step)) == pytest.approx(expected)


def test_a_categoricals_capacity_is_capped_at_what_it_can_carry() -> None:
    penalty = Capacity(gamma=1, gaussian=5, categorical=50, ramp_steps=100)
    one = posterior(3.0, 0.8)
    two = Posterior((*one.parts, Categorical(torch.zeros(2, 10, dtype=torch.float64))))
    assert penalty.capacities(one, 100)["categorical"] == pytest.approx(math.log(4))
    assert penalty.capacities(two, 100)["categorical"] == pytest.approx(math.log(40))
    expected = (5 - 3.0) + (math.log(40) - categorical_kl(0.8))
    assert float(penalty(two, 100)) == pytest.approx(expected)


def test_a_model_without_categoricals_has_one_capacity() -> None:
    penalty = Capacity(gamma=2, gaussian=1, categorical=1, ramp_steps=10)
    q = Posterior(posterior(3.0, 0.8).parts[:1])
    assert penalty.capacities(q, 10) == {"gaussian": 1.0}
    assert float(penalty(q, 10)) == pytest.approx(2 * 2)


# Augmentation


def test_moving_by_nothing_changes_nothing() -> None:
    x = genrobust.load_images("digits").take(range(4))
    torch.testing.assert_close(move(x, generator(0), 0, 0, 0), x, atol=1e-5, rtol=0)


def test_moved_images_keep_their_range_and_shift_at_most_as_told() -> None:
    x = torch.zeros(200, 1, 33, 33)
    x[:, :, 15:18, 15:18] = 1  # a square in the middle
    moved = move(x, generator(0), degrees=0, shift=0.1, scale=0)
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1 + 1e-5
    places = torch.arange(33.0)
    centres = (moved.sum(2)[:, 0] * places).sum(1) / moved.sum((1, 2, 3))
    assert (centres - 16).abs().max() <= 3.3 + 0.01
    assert (centres - 16).abs().max() > 2.5
    torch.testing.assert_close(moved.sum((1, 2, 3)), torch.full((200,), 9.0), atol=1e-3, rtol=0)


def test_a_turn_keeps_the_distance_to_the_centre() -> None:
    x = torch.zeros(200, 1, 65, 65)
    x[:, 0, 31:34, 51:54] = 1  # 20 pixels right of the centre
    moved = move(x, generator(0), degrees=90, shift=0, scale=0)[:, 0]
    weight = moved.sum((1, 2))
    places = torch.arange(65.0) - 32
    right, down = (moved.sum(1) * places).sum(1) / weight, (moved.sum(2) * places).sum(1) / weight
    torch.testing.assert_close(torch.hypot(right, down), torch.full((200,), 20.0), atol=0.3, rtol=0)
    assert (right > -1).all()  # never more than 90 degrees
    assert down.min() < -15
    assert down.max() > 15


def test_blur_keeps_means_and_takes_contrast_from_half_the_images() -> None:
    x = torch.zeros(300, 1, 32, 32)
    x[:, :, :, ::2] = 0.5
    x[:, :, 8:24, 8:24] += 0.25
    blurred = blur_and_noise(x, generator(0))
    assert float(blurred.min()) >= 0
    assert float(blurred.max()) <= 1
    bright, dark = (blurred[:, 0, 12:20, first:20:2].mean((1, 2)) for first in (12, 13))
    assert 0.3 < float((bright - dark < 0.4).float().mean()) < 0.6
    means = blurred[:, 0, 12:20, 12:20].mean((1, 2))
    torch.testing.assert_close(means, torch.full((300,), 0.5), atol=0.06, rtol=0)


# Judges


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for the one with shipped weights."""
    monkeypatch.setattr("genrobust.judges.load.WEIGHTS", tmp_path)
    _shipped.cache_clear()
    yield tmp_path
    _shipped.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_trained_judge_has_a_card_and_loads(architecture: str, shipped: Path) -> None:
    steps = 30 if architecture == "lenet" else 2
    losses: list[float] = []
    card = train_judge(
        architecture,
        "digits",
        shipped / "digits",
        steps=steps,
        on_step=lambda _, loss: losses.append(loss),
    )
    assert len(losses) == card.steps == steps
    assert (card.kind, card.name) == ("judge", f"judge-{architecture}")
    judge = load_judge("digits", architecture)
    assert judge.sha256 == card.weights_sha256
    assert card.parameters == sum(p.numel() for p in judge.module.parameters())
    assert not judge.module.training
    assert not any(p.requires_grad for p in judge.module.parameters())
    test = genrobust.load_images("digits", "test")
    right = judge.labels(test.take(range(len(test)))) == test.labels
    assert card.metrics["accuracy"] == pytest.approx(float(right.float().mean()), abs=1e-3)
    if architecture == "lenet":
        assert card.metrics["accuracy"] > 0.5


def test_a_judge_is_trained_the_same_way_again(tmp_path: Path) -> None:
    cards = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        cards.append(train_judge("lenet", "digits", tmp_path, steps=2))
    assert cards[0] == cards[1]
    assert train_judge("lenet", "digits", tmp_path / "other", steps=2, seed=1) != cards[0]


def test_a_judge_of_another_training_is_not_written_over(tmp_path: Path) -> None:
    train_judge("lenet", "digits", tmp_path, steps=1)
    weights = (tmp_path / "judge-lenet.safetensors").read_bytes()
    for other in ({"seed": 1}, {"steps": 2}):
        with pytest.raises(GenrobustError, match="holds a 'judge-lenet' of another training"):
            train_judge("lenet", "digits", tmp_path, **{"steps": 1, **other})
    assert (tmp_path / "judge-lenet.safetensors").read_bytes() == weights


def test_an_unknown_judge_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(GenrobustError, match="unknown judge 'lennet'; did you mean 'lenet'"):
        train_judge("lennet", "digits", tmp_path)
    with pytest.raises(GenrobustError, match="unknown judge 'resnt'; did you mean 'resnet'"):
        load_judge("digits", "resnt")


def test_a_judge_that_does_not_ship_is_a_clear_error(shipped: Path) -> None:
    with pytest.raises(GenrobustError, match="no judge 'vgg' ships for 'digits'"):
        load_judge("digits", "vgg")


class _Says(nn.Module):
    def __init__(self, labels: list[int]) -> None:
        super().__init__()
        self.said = torch.tensor(labels)

    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(self.said, 10).float()


def test_a_panel_speaks_only_where_all_its_judges_agree() -> None:
    votes = ([1, 2, 3, 4], [1, 2, 0, 4], [1, 0, 0, 4])
    panel = Panel(tuple(Judge(str(i), _Says(said), "0") for i, said in enumerate(votes)))
    verdict = panel.verdict(torch.zeros(4, 1, 32, 32))
    assert verdict.tolist() == [1, NO_VERDICT, NO_VERDICT, 4]


def test_a_points_code_has_no_penalty() -> None:
    q = Posterior((Point(torch.ones(2, 3)),))
    assert float(Beta()(q, 0)) == 0
