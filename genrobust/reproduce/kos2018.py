"""Kos, Fischer & Song 2018: three attacks on a VAE, and what its feedback loop makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genrobust import files
from genrobust.attacks import attack
from genrobust.attacks.feedback_loop import feedback_loop
from genrobust.attacks.probe import trained_probe
from genrobust.data import load_images
from genrobust.drawing import blank, style
from genrobust.metrics import l2
from genrobust.models import GenerativeModel
from genrobust.models.card import Card
from genrobust.reproduce import checkpoints
from genrobust.reproduce.base import Reproduction, Setup, table, wilson
from genrobust.seeding import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ATTACKS = ("kos-classifier", "kos-lvae", "kos-latent")
#: lambda as the authors' command for their largest model has it, and as a fork's default has it.
WEIGHTS = (0.75, 0.001)
LOOPS = 2
#: Training images that the classifier and the classes' means are of.
REFERENCES = 2000
CLASSES = 10
#: From this error of unattacked reconstructions on, a model is said not to give images back.
POOR = 0.25

OTHERS = ("disvae_VAE_mnist",)


def kos2018(setup: Setup) -> Reproduction:
    """Kos, Fischer & Song 2018: three attacks from grey, scored through the feedback loop."""
    images = load_images(setup.dataset, "test", setup.data_root)
    train = load_images(setup.dataset, "train", setup.data_root)
    assert images.labels is not None, "the data sets of the publication have labels"
    assert train.labels is not None, "likewise"
    count = min(setup.sources or (4 if setup.fast else 20), len(images))
    few = 200 if setup.fast else REFERENCES
    references = train.take(range(few)), train.labels[:few]
    ids = list(range(count))
    labels = images.labels[:count]
    steps_away = torch.randint(1, CLASSES, (count,), generator=generator("kos", setup.seed))
    aims = (labels + steps_away) % CLASSES
    models = [checkpoints.model("vae", setup)]
    folder = setup.checkpoints
    if folder is not None and (folder / "vaegan.safetensors").is_file():
        models.append(checkpoints.model("vaegan", setup))
    models += checkpoints.published(setup, OTHERS)
    steps = 2 if setup.fast else 1000
    found: dict[str, dict[str, Any]] = {}
    for model in models:
        for name in ATTACKS:
            for weight in WEIGHTS:
                key = {
                    "model": model.fingerprint(),
                    "data": [images.sha256, train.sha256, count, few],
                    "aims": aims.tolist(),
                    "attack": [name, weight, steps],
                }

                def compute(
                    model: GenerativeModel = model, name: str = name, weight: float = weight
                ) -> dict[str, Any]:
                    x = images.take(ids)
                    x_adv = attack(
                        name,
                        model,
                        x,
                        labels=labels,
                        target_labels=aims,
                        references=references,
                        eps=float("inf"),
                        norm="l2",
                        seed=setup.seed,
                        sample_ids=ids,
                        steps=steps,
                        distance_weight=weight,
                        as_published=True,
                    ).x_adv
                    return _looped(model, x, x_adv, references, setup.seed)

                told = f"kos2018-{model.name}-{name}-{weight:g}"
                found.setdefault(model.name, {})[f"{name}, {weight:g}"] = setup.kept(
                    told, key, compute
                )
    return _page(setup, found, labels, aims, steps, few)


def _looped(
    model: GenerativeModel,
    x: Tensor,
    x_adv: Tensor,
    references: tuple[Tensor, Tensor],
    seed: int,
) -> dict[str, Any]:
    """The classes that a classifier of codes sees at each loop, clean and attacked."""

    @torch.no_grad()
    def vectors(images: Tensor) -> Tensor:
        return torch.cat([model.encode(part).vector() for part in images.split(256)])

    probe = trained_probe(vectors(references[0]), references[1], epochs=100, hidden=512, seed=seed)
    with torch.no_grad():
        return {
            "clean": [probe(vectors(loop)).argmax(1).tolist() for loop in
                      feedback_loop(model, x, LOOPS)],
            "attacked": [probe(vectors(loop)).argmax(1).tolist() for loop in
                         feedback_loop(model, x_adv, LOOPS)],
            "l2": [round(d, 4) for d in l2(x, x_adv).tolist()],
        }  # fmt: skip


def _rates(one: dict[str, Any], labels: Tensor, aims: Tensor, loop: int) -> tuple[Any, Any]:
    """Success ignoring the target and to it, of all sources, at a loop."""
    seen = torch.tensor(one["attacked"][loop])
    wrong, hit = (seen != labels).double().mean(), (seen == aims).double().mean()
    return wilson(float(wrong), len(labels)), wilson(float(hit), len(labels))


def _page(
    setup: Setup,
    found: dict[str, dict[str, Any]],
    labels: Tensor,
    aims: Tensor,
    steps: int,
    references: int,
) -> Reproduction:
    rows: list[list[str]] = []
    results: dict[str, Any] = {}
    for model, ways in found.items():
        first = next(iter(ways.values()))
        clean = [float((torch.tensor(seen) != labels).double().mean()) for seen in first["clean"]]
        rows.append([model, "none", "", "0", *(f"{100 * error:.0f}" for error in clean)])
        for way, one in ways.items():
            name, weight = way.split(", ")
            rates = [_rates(one, labels, aims, loop) for loop in range(LOOPS + 1)]
            distance = sum(one["l2"]) / len(one["l2"])
            cells = [
                f"{100 * wrong.value:.0f} [{100 * wrong.low:.0f}, {100 * wrong.high:.0f}] "
                f"({100 * hit.value:.0f})"
                for wrong, hit in rates
            ]
            rows.append([model, name, weight, f"{distance:.2f}", *cells])
            results.setdefault(model, {})[way] = {
                "l2": round(distance, 4),
                "loops": [{"wrong": vars(wrong), "hit": vars(hit)} for wrong, hit in rates],
                "clean_error": clean,
            }
    head = ["model", "attack", "lambda", "L2", *(f"loop {i}" for i in range(LOOPS + 1))]
    summary = table(head, rows)
    poor = "".join(map(_warning, results, results.values()))
    gan = _trained(setup) if "vaegan" in found else (
        " It was not at hand: `genrobust train --model vaegan --dataset mnist --out FOLDER`, then "
        "`--checkpoints FOLDER`."
    )  # fmt: skip
    text = f"""\
Kos, Fischer & Song 2018 attack a VAE and a VAE-GAN in three ways: through a classifier of the
latent code, through the VAE's own loss on the target class's mean reconstruction, and towards the
class's mean code. An attack starts from a grey picture and has no ball: lambda alone keeps it near
its source. A classifier of codes looks at the attacked picture (loop 0), at its reconstruction
(loop 1, the published success rate) and at the reconstruction of that (loop 2).

{summary}

Percent of the first {len(labels)} test images that the classifier takes for another class, with a
95% interval, and in brackets for the target's, a class drawn at random; *none* is the classifier's
error on unattacked images. L2 is the mean length of the change, out of a ball: compare rates only
beside it. {steps:,} steps of Adam at 0.1, the last iterate, as published. The published rates are
not quoted, as the paper's tables were not at hand; this page shows the protocol at work.

![Success ignoring the target against the length of the change](kos2018-loops.svg)

## What is not known, and what it changes

- *lambda* on MNIST is not stated: the code's default is 1 with 100 steps at 0.001, the authors'
  command for CelebA has 0.75 with 1,000 steps at 0.1, a fork has 0.001. Both of the latter are in
  the table: it decides how long the change is, and with it the success.
- The published MNIST VAE is dense with 50 latents whose means pass a ReLU, trained with draws of
  deviation 0.01; `vae` is convolutional with 10 plain ones. `disvae_VAE_mnist` was
  trained by others.
- The VAE-GAN of the paper is `vaegan` of `genrobust train`.{gan}
- Classifier and classes' means are of {references:,} training images (published: all).
{poor}"""
    return Reproduction(
        title="Kos, Fischer & Song 2018: three attacks and the feedback loop",
        text=text,
        summary=summary,
        results={
            "dataset": setup.dataset,
            "sources": len(labels),
            "steps": steps,
            "seed": setup.seed,
            "models": results,
        },
        figures={"kos2018-loops": _figure(results)},
    )


def _trained(setup: Setup) -> str:
    """How long the VAE-GAN was trained, where its card lies beside its weights."""
    assert setup.checkpoints is not None, "it was found there"
    path = setup.checkpoints / "vaegan.json"
    if not path.is_file():
        return ""
    card = Card.model_validate_json(files.read_text(path))
    return f" Here it is of {card.steps:,} steps."


def _warning(model: str, ways: dict[str, Any]) -> str:
    """That a model's rates say nothing, where it gives clean images back as others."""
    error = next(iter(ways.values()))["clean_error"][1]
    return (
        f"- **`{model}` does not give clean images back**: {100 * error:.0f}% of their "
        "reconstructions are read wrong, so that its rates say next to nothing of attacks.\n"
        if error >= POOR
        else ""
    )


def _figure(results: dict[str, Any]) -> Figure:
    figure = blank(9, 3.4)
    panels = figure.subplots(1, LOOPS + 1, sharey=True)
    for loop, ax in enumerate(panels):
        for number, (model, ways) in enumerate(results.items()):
            look = {**style(number), "ls": ""}
            ax.plot(
                [one["l2"] for one in ways.values()],
                [100 * one["loops"][loop]["wrong"]["value"] for one in ways.values()],
                label=model,
                **look,
            )
        ax.set(title=f"loop {loop}", xlabel="L2 of the change", ylim=(-3, 103))
    panels[0].set_ylabel("changed, %")
    panels[0].legend(frameon=False, fontsize="small")
    return figure
