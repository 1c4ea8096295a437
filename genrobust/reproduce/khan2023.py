"""Khan & Storkey 2023: how far the encoder stretches images, against beta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from genrobust.attacks import attack
from genrobust.data import load_images
from genrobust.drawing import blank, style
from genrobust.metrics import largest_eigenvalue, pullback_spectrum, von_neumann_entropy
from genrobust.models import GenerativeModel
from genrobust.models.networks import NetworkSpec
from genrobust.reproduce import checkpoints
from genrobust.reproduce.base import Reproduction, Setup, bootstrapped, mean_of, spearman, table
from genrobust.training.losses import Beta
from genrobust.training.recipes import Recipe, recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: From the released scores on MNIST: entropy, largest eigenvalue, error, by beta.
PUBLISHED = {
    0.01: (4.95, 4.27, 0.150),
    0.027: (4.11, 4.97, 0.173),
    0.072: (3.05, 2.87, 0.088),
    0.193: (2.45, 2.07, 0.067),
    0.518: (2.03, 1.64, 0.049),
    1.39: (1.42, 1.08, 0.037),
    3.73: (0.95, 0.65, 0.043),
    10.0: (0.66, 0.075, 0.064),
}
#: Spearman's correlation with beta over the 50 values that were released, in the same order.
CORRELATIONS = (-0.97, -0.97, -0.89)
SCORES = ("entropy", "largest eigenvalue", "error")
STEPS = 500

#: With their beta.
ZOO = {"vae": 1.0, "betavae": 4.0}
OTHERS = {"disvae_VAE_mnist": 1.0, "disvae_betaH_mnist": 4.0}


def khan2023(setup: Setup) -> Reproduction:
    """Khan & Storkey 2023: the encoder's pulled-back metric and its top attack, by beta."""
    images = load_images(setup.dataset, "test", setup.data_root)
    count = min(setup.sources or (4 if setup.fast else 64), len(images))
    x = images.take(range(count))
    others = [(m, OTHERS[m.name]) for m in checkpoints.published(setup, tuple(OTHERS))]
    betas = (0.072, 3.73) if setup.fast else tuple(PUBLISHED)
    sweep = [
        (checkpoints.trained(f"beta-{beta:g}", _recipe(beta, setup), setup), beta) for beta in betas
    ]
    known = [(checkpoints.model(name, setup), beta) for name, beta in ZOO.items()]
    found = {}
    for model, beta in [*sweep, *known, *others]:
        key = {"model": model.fingerprint(), "count": count, "data": images.sha256}

        def compute(model: GenerativeModel = model) -> dict[str, list[float]]:
            return _scores(model, x, setup.seed)

        scores = setup.kept(f"khan2023-{model.name}", key, compute)
        found[model.name] = {"beta": beta, **scores}
    return _page(setup, found, count)


def _recipe(beta: float, setup: Setup) -> Recipe:
    known = recipe("betavae", setup.dataset)
    return known.model_copy(
        update={
            "network": NetworkSpec(gaussian=10, layers="dense"),
            "penalty": Beta(beta=beta),
            "steps": 2 if setup.fast else STEPS,
        }
    )


def _scores(model: GenerativeModel, x: torch.Tensor, seed: int) -> dict[str, list[float]]:
    """Entropy, eigenvalue and error, one an image.

    The error is the published one, of the reconstruction from the clean image, along the top
    eigenvector at the largest change of the published row.
    """
    spectrum = pullback_spectrum(model, x, with_std=True)
    x_adv = attack(
        "khan", model, x, eps=float("inf"), norm="l2", seed=seed, directions=1, scales=5
    ).x_adv
    with torch.no_grad():
        error = (model.reconstruct(x_adv) - x).square().flatten(1).mean(1)
    columns = (von_neumann_entropy(spectrum), largest_eigenvalue(spectrum), error)
    return {
        name: [float(f"{v:.5g}") for v in column.tolist()]
        for name, column in zip(SCORES, columns, strict=True)
    }


def _page(setup: Setup, found: dict[str, dict[str, Any]], count: int) -> Reproduction:
    rows = []
    results: dict[str, Any] = {}
    for name, scores in found.items():
        means = [mean_of(scores[score], setup.seed) for score in SCORES]
        results[name] = {"beta": scores["beta"]} | {
            score: vars(mean) for score, mean in zip(SCORES, means, strict=True)
        }
        published = PUBLISHED.get(scores["beta"]) if name.startswith("beta-") else None
        said = [
            f"{mean:.3g}" + (f"; {published[i]:g}" if published else "")
            for i, mean in enumerate(means)
        ]
        rows.append([name, f"{scores['beta']:g}", *said])
    head = ["model", "beta", *(f"{score}; published" for score in SCORES)]
    swept = [found[name] for name in found if name.startswith("beta-")]
    ranks = [
        bootstrapped(
            [[one["beta"], sum(one[score]) / count] for one in swept], spearman, setup.seed
        )
        for score in SCORES
    ]
    again = [
        bootstrapped(
            [[beta, values[i]] for beta, values in PUBLISHED.items()], spearman, setup.seed
        )
        for i in range(len(SCORES))
    ]
    correlations = table(
        ["Spearman's correlation with beta", *SCORES],
        [
            ["published, 50 values of beta", *(f"{r:.2f}" for r in CORRELATIONS)],
            ["published, these 8", *map(str, again)],
            [f"measured, {len(swept)}", *map(str, ranks)],
        ],
    )
    results["spearman"] = {score: vars(r) for score, r in zip(SCORES, ranks, strict=True)}
    summary = f"{table(head, rows)}\n\n{correlations}"
    text = f"""\
Khan & Storkey 2023 pull the metric of the latent space back to images. Its largest eigenvalue says
how far the encoder stretches the direction that it stretches most; the entropy says how many
directions it stretches about as far. The claim: both fall as beta grows, and so does the error of
the reconstruction under an attack along the top eigenvector.

{summary}

Means over the first {count} test images with an interval over images (published: six batches of
512). *Entropy* is as the published code takes it: of eigenvalues over their largest. *Error*: mean
squared difference, per pixel, between the clean image and the reconstruction of the attacked one;
the attack goes along the top eigenvector, one way and the other, at five lengths from 0.1 to 10
times the eigenvalue (published: 40), and keeps the one that moves the reconstruction farthest.
Correlations of 8 have an interval over the 8 values of beta; that of a perfect order has no width,
for whatever is drawn from it is in order again, which is no certainty. One training seed each.

![Each score against beta, published and measured](khan2023-beta.svg)

## How to read it

- The error is no third piece of evidence. The attack's length is a multiple of the eigenvalue, so
  that a model with a large one is attacked by a longer change, up to where the box of pixels stops
  it: its error would fall with the eigenvalue even if all models were equally robust to changes of
  one length. It also holds the error without an attack, which grows with beta.
- That the encoder stretches less at a large beta does not say that the reconstruction is kept: a
  latent space may be as small as its stretching.

## What differs

- `beta-*` are trained here: dense layers of 512, 10 latents, {STEPS:,} steps of 64 images. The
  published network and training are not stated where we could read them, so only the direction of
  each relation is compared, not its level: the rows of `vae`, `betavae` (which ship) and of
  `disvae_*` (trained by others for 400 epochs) show how much the level depends on training at one
  beta.
- The published scores on FashionMNIST are copies of those on MNIST, so that they are left out.
"""
    return Reproduction(
        title="Khan & Storkey 2023: local geometry",
        text=text,
        summary=summary,
        results={"dataset": setup.dataset, "images": count, "steps": STEPS, "models": results},
        figures={"khan2023-beta": _figure(results)},
    )


def _figure(results: dict[str, Any]) -> Figure:
    figure = blank(9, 3.4)
    groups: dict[str, str | tuple[str, ...]] = {
        "trained here": "beta-",
        "that ship": tuple(ZOO),
        "of others": tuple(OTHERS),
    }
    for i, (ax, score) in enumerate(zip(figure.subplots(1, 3), SCORES, strict=True)):
        published = [values[i] for values in PUBLISHED.values()]
        ax.plot(list(PUBLISHED), published, label="published", **style(0))
        for number, (label, names) in enumerate(groups.items(), 1):
            of = [r for name, r in results.items() if name.startswith(names) and "beta" in r]
            ax.plot(
                [r["beta"] for r in of],
                [r[score]["value"] for r in of],
                label=label,
                **style(number),
            )
        ax.set(xscale="log", yscale="log", xlabel="beta", title=score)
    figure.axes[0].legend(frameon=False, fontsize="small")
    return figure
