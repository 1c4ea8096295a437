"""Kuzina, Welling & Tomczak 2022: does MCMC on the code undo an attack, and one that knows it?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genrobust.attacks import attack
from genrobust.data import Images, load_images
from genrobust.defences import hmc_defended
from genrobust.drawing import blank, style
from genrobust.errors import GenrobustError
from genrobust.metrics import fit_probe, ms_ssim_small
from genrobust.models import GenerativeModel
from genrobust.reproduce import checkpoints
from genrobust.reproduce.base import Reproduction, Setup, mean_of, table, wilson
from genrobust.seeding import generator, seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPS = (0.1, 0.2)
#: Training images that the probe is fitted to.
REFERENCES = 2000
CLASSES = 10

ZOO = ("vae", "betavae")
OTHERS = ("disvae_VAE_mnist",)

#: How a row was attacked and defended, in the order of the tables.
WAYS = {
    "undefended": "no defence",
    "defended": "HMC, attacked without knowing it",
    "through": "HMC, attacked through a short chain",
}


def kuzina2022(setup: Setup) -> Reproduction:
    """Kuzina et al. 2022: MCMC from the attacked code, and an attack that goes through it."""
    images = load_images(setup.dataset, "test", setup.data_root)
    train = load_images(setup.dataset, "train", setup.data_root)
    assert train.labels is not None, "the data sets of the publication have labels"
    ids = stratified(images, setup.sources or (10 if setup.fast else 20))
    few = 200 if setup.fast else REFERENCES
    references = train.take(range(few)), train.labels[:few]
    effort: dict[str, Any] = (
        {"steps": 2, "restarts": 1} if setup.fast else {"steps": 50, "restarts": 10}
    )
    chain: dict[str, Any] = (
        {"steps": 2, "leapfrog": 2} if setup.fast else {"steps": 50, "leapfrog": 20}
    )
    known: dict[str, Any] = {"steps": 2, "leapfrog": 2, "draws": 2}
    through: dict[str, Any] = {"attack": 2 if setup.fast else 25, "chain": known}
    if not setup.fast:
        known |= {"steps": 4, "leapfrog": 5}
    models = [checkpoints.model(name, setup) for name in ZOO]
    models += checkpoints.published(setup, OTHERS)
    found = {}
    for model in models:
        rows = _Rows(model, images.take(ids), ids, references, chain, setup.seed)
        shared = {
            "model": model.fingerprint(),
            "data": [images.sha256, train.sha256, ids, few],
            "chain": chain,
        }

        def clean(rows: _Rows = rows) -> dict[str, Any]:
            return {way: rows.score(rows.x, way != "undefended") for way in list(WAYS)[:2]}

        found[model.name] = {"clean": setup.kept(f"kuzina2022-{model.name}-clean", shared, clean)}
        for eps in EPS:
            key = {**shared, "attack": [eps, effort, through]}

            def attacked(rows: _Rows = rows, eps: float = eps) -> dict[str, Any]:
                unaware = rows.attacked(rows.model, "skl", eps, effort)
                aware = rows.attacked(
                    hmc_defended(rows.model, through=True, **known),
                    "means",
                    eps,
                    {"steps": through["attack"], "restarts": 1},
                )
                return {
                    "undefended": rows.score(unaware, defended=False),
                    "defended": rows.score(unaware, defended=True),
                    "through": rows.score(aware, defended=True),
                }

            told = f"kuzina2022-{model.name}-{eps:g}"
            found[model.name][f"{eps:g}"] = setup.kept(told, key, attacked)
    return _page(setup, found, len(ids), effort, chain, through)


def stratified(images: Images, count: int) -> list[int]:
    """The first images of each class, equally many of each.

    Raises:
        GenrobustError: the count is no multiple of the number of classes, or more than there are.
    """
    assert images.labels is not None, "the data sets of the publication have labels"
    places = [(images.labels == c).nonzero()[:, 0].tolist() for c in range(CLASSES)]
    most = CLASSES * min(map(len, places))
    if count % CLASSES or count > most:
        raise GenrobustError(
            f"--sources is {count}; give a multiple of {CLASSES}, equally many of each class, up "
            f"to {most}"
        )
    return [place for of in places for place in of[: count // CLASSES]]


class _Rows:
    """A model, its sources, and the probe that reads a class from its codes."""

    def __init__(
        self,
        model: GenerativeModel,
        x: Tensor,
        ids: list[int],
        references: tuple[Tensor, Tensor],
        chain: dict[str, Any],
        seed: int,
    ) -> None:
        self.model, self.x, self.ids, self.seed = model, x, ids, seed
        with torch.no_grad():
            posterior = model.encode(references[0])
            noise = posterior.draw_noise(generator("kuzina2022", "probe", seed))
            # Of draws, as the chain's codes are: a probe of means weighs latents that hardly move.
            self.probe = fit_probe(posterior.sample(noise).flatten(1), references[1])
            self.read = self.probe.labels(model.encode(x).vector())
        self.chain = hmc_defended(model, through=True, **chain)

    def attacked(
        self, model: GenerativeModel, objective: str, eps: float, effort: dict[str, Any]
    ) -> Tensor:
        with seeded(model.device, "kuzina2022", "attack", self.seed):  # the chain's draws
            found = attack(
                "kuzina",
                model,
                self.x,
                eps=eps,
                seed=self.seed,
                sample_ids=self.ids,
                objective=objective,
                **effort,
            )
        return found.x_adv

    @torch.no_grad()
    def score(self, images: Tensor, defended: bool) -> dict[str, list[Any]]:
        """Is the class the clean code's, how alike is the reconstruction, and its error."""
        model = self.chain if defended else self.model
        with seeded(model.device, "kuzina2022", "chain", self.seed):
            code = model.encode(images)
        image = model.decode(code.mode()).clamp(0, 1)
        before = self.model.reconstruct(self.x).clamp(0, 1)
        error = (image - self.x).square().flatten(1).sum(1)
        return {
            "same": (self.probe.labels(code.vector()) == self.read).tolist(),
            "alike": [round(v, 4) for v in ms_ssim_small(image, before).tolist()],
            "error": [round(v, 3) for v in error.tolist()],
        }


def _page(
    setup: Setup,
    found: dict[str, dict[str, Any]],
    count: int,
    effort: dict[str, Any],
    chain: dict[str, Any],
    through: dict[str, Any],
) -> Reproduction:
    mean = partial(mean_of, seed=setup.seed)
    rows, gains, results = [], [], {}
    for model, by_radius in found.items():
        numbers: dict[str, Any] = {}
        for radius, ways in by_radius.items():
            for way, one in ways.items():
                told = {
                    "same": wilson(sum(one["same"]) / count, count),
                    "alike": mean(one["alike"]),
                    "error": mean(one["error"]),
                }
                label = "HMC" if radius == "clean" and way == "defended" else WAYS[way]
                cells = [f"{told['same']:.0%}", f"{told['alike']:.2f}", f"{told['error']:.1f}"]
                rows.append([model, radius.replace("clean", "no attack"), label, *cells])
                numbers.setdefault(radius, {})[way] = {k: vars(v) for k, v in told.items()}
            if radius != "clean":
                cells = [model, radius]
                for way in ("defended", "through"):
                    pairs = zip(ways[way]["same"], ways["undefended"]["same"], strict=True)
                    gain = mean([100 * (int(a) - int(b)) for a, b in pairs])
                    numbers[radius][way]["gain"] = vars(gain)
                    cells.append(f"{gain:+.0f}")
                gains.append(cells)
        results[model] = numbers
    head = ["model", "eps", "what", "same class", "likeness", "squared error"]
    summary = table(head, rows)
    steps = f"{chain['steps']} steps of {chain['leapfrog']} leapfrogs"
    short = through["chain"]
    text = f"""\
Kuzina, Welling & Tomczak 2022 attack the encoder alone, without a target, and leave its answer
behind: a Hamiltonian Monte Carlo chain goes from a draw of q(z|x) towards the model's own posterior
of the attacked image, and its last code is decoded. Nothing is trained. The claim: the class that a
linear probe reads from the code, and the likeness of the reconstruction, come back. The paper's
tables were not at hand, and its code holds no numbers, so none is quoted.

{summary}

{count} test images, equally many of each class. *Same class*: the probe reads from the code what it
reads from the clean image's mean, right or wrong (the paper's adversarial accuracy), with Wilson's
interval. *Likeness*: MS-SSIM of the reconstruction with the clean, undefended one; *squared error*:
of it to the clean image, summed over pixels; with an interval over images. The attack maximises the
symmetric KL to the clean posterior in L-inf {EPS[0]:g} or {EPS[1]:g}: {effort["steps"]} steps of
gradient descent from each of {effort["restarts"]} starts.

What the defence gains, in points of *same class* over the undefended model on the same images; the
interval is over images:

{table(["model", "eps", "attack does not know of it", "attack goes through it"], gains)}

## How to read it

- *Without knowing it* is the paper's main setting: the attack is made for another model than the
  one that is scored, which says little of a defence.
- *Through a short chain*: as in the published code, the attack differentiates through
  {short["steps"]} steps of {short["leapfrog"]} leapfrogs ({short["draws"]} draws a gradient,
  {through["attack"]} steps of descent, one start) and is scored on the full chain of {steps}. It
  spends far fewer steps than the other, and finds less than one through the whole chain would:
  where it does worse than the attack that does not know, it was too weak, and is no evidence for
  the defence. Believe the lower number of the two, as an upper bound.
- *No attack* is what the defence costs: a chain that leaves the encoder's answer changes codes that
  nobody attacked.
- The chain here is of {steps} (published on MNIST: 500 steps of 20),
  from a step of 0.1 that moves towards an acceptance of 0.9 in its first half. One draw an image. A
  longer one may bring back more: what is not seen here is not refuted.

![Same class by model and radius](kuzina2022-classes.svg)

## What differs

- The published networks are convolutional with 64 latents, trained with beta 1 to 10 for 300
  epochs. `vae` and `betavae` (beta 4) ship, with 10 latents; `disvae_VAE_mnist` was trained by
  others. One training seed each.
- MS-SSIM is genrobust's for small images, with a window of 7 (published: 14): compare it with
  itself alone. The probe is a logistic regression on one draw of the code of each of
  {REFERENCES:,} training images (published: on the means. Such a probe weighs a latent that hardly
  moves so much that it reads noise from a chain's code, which is a draw).
- Images are 32x32, not 28x28. FID, the supervised attacks, and CelebA with NVAE are not here.
"""
    return Reproduction(
        title="Kuzina et al. 2022: MCMC on the code",
        text=text,
        summary=summary,
        results={
            "dataset": setup.dataset,
            "images": count,
            "seed": setup.seed,
            "attack": effort,
            "chain": chain,
            "through": through,
            "models": results,
        },
        figures={"kuzina2022-classes": _figure(results)},
    )


def _figure(results: dict[str, Any]) -> Figure:
    figure = blank(9, 3.4)
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for ax, (model, numbers) in zip(panels, results.items(), strict=True):
        for number, (way, label) in enumerate(WAYS.items()):
            start = numbers["clean"]["undefended" if way == "undefended" else "defended"]
            cells = [start, *(numbers[f"{eps:g}"][way] for eps in EPS)]
            shares = [100 * one["same"]["value"] for one in cells]
            ax.plot([0, *EPS], shares, label=label, **style(number))
        ax.set(xlabel="eps, L-inf", ylim=(-3, 103), title=model)
    panels[0].set_ylabel("the clean code's class, %")
    panels[0].legend(frameon=False, fontsize="small")
    return figure
