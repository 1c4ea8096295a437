"""Attacks of Kos, Fischer and Song: convex problems, class means, probes and the feedback loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from attack_cases import digits, given
from conftest import LinearBuilder
from linear_problems import COUNT, SMALL, Plain, close
from scipy.optimize import minimize
from torch import Tensor

import genrobust
from genrobust.attacks.feedback_loop import feedback_loop
from genrobust.attacks.kos import class_means
from genrobust.attacks.probe import trained_probe
from genrobust.batch import Batch, Context
from genrobust.errors import GenrobustError
from genrobust.judges import Judge
from genrobust.seeding import generator


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_kos_latent_attack_solves_its_ridge_problem(weight: float, plain: Plain) -> None:
    labels = torch.tensor([0, 1, 1, 0, 1])
    images = torch.rand(5, 1, 4, 4, generator=generator("references"))
    means = torch.stack([images[labels == c].mean(0) for c in (0, 1)])
    goal = torch.tensor([0, 1, 0, 1])
    gap = (means[goal] - plain.x).flatten(1) @ plain.E.T
    best = plain.least(plain.E, gap, math.inf, weight) / 2
    arguments: dict[str, Any] = {"eps": math.inf, "steps": 200, "distance_weight": weight}
    found = genrobust.attack(
        "kos-latent", plain.model, plain.x, target_labels=goal, references=(images, labels),
        **arguments,
    )  # fmt: skip
    close(found.loss, best)
    alone = genrobust.attack(
        "kos-latent", plain.model, plain.x, target=means[goal], aim="image", **arguments
    )
    torch.testing.assert_close(alone.x_adv, found.x_adv, atol=1e-3, rtol=0)


@pytest.mark.parametrize("weight", [0.1, 0.75])
def test_kos_lvae_attack_solves_its_convex_problem(
    weight: float, plain: Plain, linear_vae: LinearBuilder
) -> None:
    D = SMALL * plain.D
    model = linear_vae(plain.E, D)
    found = genrobust.attack(
        "kos-lvae", model, plain.x, target=plain.target, eps=math.inf, norm="l2", aim="image",
        reconstruct_target=False, distance_weight=weight, steps=250,
    )  # fmt: skip
    rows = zip(plain.x.flatten(1), plain.target.flatten(1), strict=True)
    solved = [convex_optimum(plain.E, D, x, target, weight) for x, target in rows]
    before, best = torch.tensor(solved, dtype=torch.float64).T
    assert (before > best + 0.01).all()
    torch.testing.assert_close(before - found.loss.double(), before - best, rtol=0.01, atol=0)


def convex_optimum(
    E: Tensor, D: Tensor, x: Tensor, target: Tensor, weight: float
) -> tuple[float, float]:
    """w/2 ||y - x||^2 + 1/2 ||E y||^2 + cross-entropy of t and D E y + 1/2, at x and at its least.

    y lies in the box.
    """
    e, d, source, t = (tensor.double().numpy() for tensor in (E, D, x, target))

    def value(y: np.ndarray) -> tuple[float, np.ndarray]:
        code = e @ y
        p = d @ code + 0.5
        loss = weight / 2 * ((y - source) ** 2).sum() + (code**2).sum() / 2
        loss -= (t * np.log(p) + (1 - t) * np.log(1 - p)).sum()
        slope = weight * (y - source) + e.T @ (code + d.T @ ((p - t) / (p * (1 - p))))
        return float(loss), slope

    solved = minimize(
        value, np.full(16, 0.5), jac=True, method="L-BFGS-B", bounds=[(0, 1)] * 16,
        options={"ftol": 1e-14, "gtol": 1e-10},
    )  # fmt: skip
    return value(source)[0], float(solved.fun)


def test_the_lvae_attack_with_one_training_image_a_class_is_that_on_the_image(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    x, labels = digits(2), torch.tensor([0, 1])
    target = digits(4)[2:]
    for reconstruct in (True, False):
        by_class = genrobust.attack(
            "kos-lvae", shipped[0], x, target_labels=labels, references=(target, labels),
            steps=5, reconstruct_target=reconstruct,
        )  # fmt: skip
        by_image = genrobust.attack(
            "kos-lvae", shipped[0], x, target=target, aim="image",
            steps=5, reconstruct_target=reconstruct,
        )  # fmt: skip
        torch.testing.assert_close(by_class.x_adv, by_image.x_adv, atol=1e-5, rtol=0)
        image = shipped[0].reconstruct(by_image.x_adv).clamp(1e-6, 1 - 1e-6).double()
        wanted = (shipped[0].reconstruct(target) if reconstruct else target).double()
        error = -(wanted * image.log() + (1 - wanted) * (1 - image).log()).flatten(1).sum(1)
        prior = shipped[0].encode(by_image.x_adv).kl_to_prior().sum(1)
        change = (by_image.x_adv - x).flatten(1).square().sum(1)
        torch.testing.assert_close(
            by_image.loss.double(), error + prior + 0.375 * change, rtol=1e-4, atol=1e-2
        )


def test_class_means_are_those_of_each_class(plain: Plain) -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]])
    references = (torch.zeros(3, 1, 4, 4), torch.tensor([2, 2, 0]))
    batch = Batch(plain.x[:1], (0,), target_labels=torch.tensor([2]), references=references)
    means = class_means(Context(plain.model, batch), values)
    assert means[2].tolist() == [2.0, 3.0]
    assert means[0].tolist() == [9.0, 9.0]


def test_a_probe_learns_codes_is_kept_and_leaves_the_global_generator_alone(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    train, test = (genrobust.load_images("digits", split) for split in ("train", "test"))
    with torch.no_grad():
        vectors, unseen = (
            shipped[0].encode(images.take(range(300))).vector() for images in (train, test)
        )
    state = torch.get_rng_state()
    probe = trained_probe(vectors, train.labels[:300], epochs=20, hidden=64)
    assert torch.equal(torch.get_rng_state(), state)
    assert (probe(unseen).argmax(1) == test.labels[:300]).float().mean() > 0.75
    assert trained_probe(vectors, train.labels[:300], epochs=20, hidden=64) is probe
    assert trained_probe(vectors, train.labels[:300], epochs=20, hidden=64, seed=1) is not probe
    for seed in range(2, 7):
        trained_probe(vectors[:2], train.labels[:2], epochs=1, hidden=2, seed=seed)
    again = trained_probe(vectors, train.labels[:300], epochs=20, hidden=64)
    assert again is not probe
    assert torch.equal(again(unseen), probe(unseen))


def test_kos_classifier_attack_fools_its_own_probe(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, judge = shipped
    arguments = {**given("targeted", judge), "steps": 60, "distance_weight": 0.001, "epochs": 10}
    found = genrobust.attack("kos-classifier", model, digits(COUNT), eps=math.inf, **arguments)
    with torch.no_grad():
        vectors = model.encode(arguments["references"][0]).vector()
        probe = trained_probe(vectors, arguments["references"][1], epochs=10)
        chosen = probe(model.encode(found.x_adv).vector()).argmax(1)
    assert torch.equal(chosen, arguments["target_labels"])


def test_the_feedback_loop_reconstructs_again_and_again(
    shipped: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, x = shipped[0], digits(2)
    loops = feedback_loop(model, x, loops=2)
    assert loops.shape == (3, 2, 1, 32, 32)
    assert torch.equal(loops[0], x)
    assert torch.equal(loops[1], model.reconstruct(x))
    assert torch.equal(loops[2], model.reconstruct(loops[1]))
    assert torch.equal(feedback_loop(model, x, loops=0), x[None])


def test_kos_as_published_returns_the_last_iterate_of_a_grey_start(plain: Plain) -> None:
    w = torch.zeros_like(plain.x).requires_grad_()
    optimizer = torch.optim.Adam([w], lr=1.0)
    goal = plain.target.flatten(1) @ plain.E.T
    for _ in range(7):
        optimizer.zero_grad()
        image = (w.tanh() + 1) / 2
        latent = 0.5 * (image.flatten(1) @ plain.E.T - goal).square().sum()
        (latent + 0.3 * 0.5 * (image - plain.x).square().sum()).backward()
        optimizer.step()
    run = lambda **more: genrobust.attack(  # noqa: E731
        "kos-latent", plain.model, plain.x, target=plain.target, aim="image", eps=math.inf,
        steps=7, learning_rate=1.0, distance_weight=0.3, **more,
    )  # fmt: skip
    published, corrected = run(as_published=True), run()
    torch.testing.assert_close(published.x_adv, (w.detach().tanh() + 1) / 2, atol=1e-4, rtol=0)
    assert (corrected.loss <= published.loss).all()
    assert (corrected.loss < published.loss).any()


@pytest.mark.parametrize("name", ["kos-classifier", "kos-lvae", "kos-latent"])
def test_a_class_without_training_images_is_refused(
    name: str, untrained: tuple[genrobust.GenerativeModel, Judge]
) -> None:
    model, judge = untrained
    arguments = given("targeted", judge)
    images, labels = arguments["references"]
    absent = int(arguments["target_labels"][0])
    arguments["references"] = (images[labels != absent], labels[labels != absent])
    with pytest.raises(GenrobustError, match=f"references hold no image of class {absent}"):
        genrobust.attack(name, model, digits(COUNT), **arguments)


def test_target_images_or_references_are_only_asked_for_where_they_are_used(
    untrained: tuple[genrobust.GenerativeModel, Judge],
) -> None:
    model, _ = untrained
    x = digits(2)
    genrobust.attack("kos-latent", model, x, steps=1)
    genrobust.attack("kos-latent", model, x, steps=1, aim="image", target=x.flip(0))
    genrobust.attack("kos-lvae", model, x, steps=1, aim="image", target=x.flip(0))
    labels = torch.tensor([3, 4])
    references = (digits(2), labels)
    found = genrobust.attack(
        "kos-latent", model, x, steps=1, target_labels=labels, references=references
    )
    assert found.success is None
