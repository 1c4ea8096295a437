"""Defences: what their papers claim, and what is left of it under the ensemble of ``digits-v2``.

    python benchmarks/defences.py --runs FOLDER

Trains each family on digits, benches it, and benches the wrappers round the plain VAE; those that
can be attacked in a way that ``standard`` does not use are benched a second time. All that is done
is kept in the folder, so that a stopped run goes on; ``--only NAME ...`` does some rows, for
several processes on one folder. Writes ``benchmarks/defences.json`` and ``benchmarks/defences.md``
of what the folder holds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import genrobust
from genrobust import defences, files
from genrobust.data import load_images
from genrobust.errors import GenrobustError
from genrobust.judges import load_judge
from genrobust.metrics import fit_probe, l2
from genrobust.models import GenerativeModel, load_model
from genrobust.records.outcomes import OUTCOMES, Outcomes, source_areas
from genrobust.reproduce.base import table
from genrobust.seeding import generator, seeded
from genrobust.study.statistics import Array, Interval, Resamples, interval
from genrobust.suites import Suite, load_suite
from genrobust.training.recipes import recipe
from genrobust.training.vae import train_vae

HERE = Path(__file__).parent
DATASET = "digits"

#: Adam's, in so few steps.
RATE = 1e-3
#: Of the short chain that is deployed here; its paper's has 500 steps of 20 leapfrogs.
CHAIN = {"steps": 8, "leapfrog": 4, "draws": 4}
#: What of the suite's attacks goes through the whole chain: the strongest, for what that costs.
THROUGH = ("classifier",)
SIGMA = 0.1
#: Of attacks in a claim's own terms, L-inf.
EPS = 0.1

#: What is kept of a model that cannot be scored: why.
REFUSED = "refused"

Own = Callable[[GenerativeModel, GenerativeModel, Suite], list[float]]
Wrapper = Callable[[GenerativeModel], GenerativeModel]


@dataclass(frozen=True)
class Row:
    """A model to measure.

    Args:
        family: what is trained.
        claim: the defence's, in its paper's terms; empty of an undefended model.
        own: the claim's own measure here, by its name in :data:`OWN`.
        wrap: puts a defence round the trained model.
        knowing: what an attack that knows of the defence attacks, where that is another model.
        note: how the ensemble reaches the defence.
    """

    family: str
    claim: str = ""
    own: str = ""
    wrap: Wrapper | None = None
    knowing: Wrapper | None = None
    note: str = "all of it is differentiated"


ROWS = {
    **{
        name: Row(name)
        for name in (
            *("autoencoder", "vae", "vae-wd", "betavae", "betavae-capacity", "jointvae"),
            *("factorvae", "betatcvae", "dipvae-i", "dipvae-ii"),
        )
    },
    "fare-vae": Row(
        "fare-vae",
        "of CLIP: what reads its code keeps its accuracy under attack (Schlarmann et al. 2024)",
        "probe",
    ),
    "smooth-encoder": Row(
        "smooth-encoder",
        "a linear probe keeps its accuracy under attacks on the encoder (Cemgil et al. 2020)",
        "probe",
    ),
    "avae": Row(
        "avae",
        "likewise, without attacks in training (Cemgil et al. 2020, AVAE)",
        "probe",
    ),
    "adversarial-vae": Row(
        "adversarial-vae",
        "of classifiers: little loss at the worst point of the ball (Madry et al. 2018)",
        "worst error",
    ),
    "mixup-vae": Row(
        "mixup-vae",
        "less error under the attack along eigenvectors (Khan & Storkey 2023)",
        "eigen error",
    ),
    "civet-vae": Row(
        "civet-vae",
        "a bound of the error under any change within eps (Xu et al. 2025)",
        "certified error",
    ),
    "lipschitz-vae": Row(
        "lipschitz-vae",
        "an L2 radius in which most reconstructions stay within r (Barrett et al. 2022)",
        "margin",
    ),
    "smoothed": Row(
        "vae",
        "an L2 radius in which the vote does not move (Cohen et al. 2019)",
        "radius",
        wrap=lambda model: defences.smoothed(model, SIGMA),
        note="through the noise, the mean over 16 draws",
    ),
    "center-smoothed": Row(
        "vae",
        "how far the reconstruction can move (Kumar & Goldstein 2021)",
        "bound",
        wrap=lambda model: defences.center_smoothed(model, SIGMA),
        note="through the noise, the mean over 4 draws",
    ),
    "hmc": Row(
        "vae",
        "the class that a probe reads comes back (Kuzina et al. 2022)",
        "probe",
        wrap=lambda model: defences.hmc_defended(model, **CHAIN),
        knowing=lambda model: defences.hmc_defended(model, through=True, **CHAIN),
        note=f"encoder and decoder; and {', '.join(THROUGH)} through the whole chain",
    ),
}


# ---- A claim's own measure: (defended, its undefended base, suite) to a number a source ----


def probe_kept(model: GenerativeModel, base: GenerativeModel, suite: Suite) -> list[float]:
    """Whether a linear probe reads the clean class from the code of an attack on the encoder."""
    train = load_images(DATASET, "train")
    assert train.labels is not None, "digits have labels"
    x = _sources(suite)
    chain = model.deploy is not None  # the attack is on the encoder, the probe reads its end
    reading = defences.hmc_defended(base, through=True, **CHAIN) if chain else base
    with torch.no_grad():
        posterior = base.encode(train.take(range(len(train))))
        noise = posterior.draw_noise(generator("defences", "probe"))
        probe = fit_probe(posterior.sample(noise).flatten(1), train.labels)
    settings: dict[str, Any] = {"eps": EPS, "sample_ids": suite.sample_ids, "restarts": 3}
    x_adv = genrobust.attack("kuzina", base, x, **settings).x_adv
    with torch.no_grad(), seeded(torch.device("cpu"), "defences", "probe"):
        before = probe.labels(base.encode(x).vector())
        return (probe.labels(reading.encode(x_adv).vector()) == before).float().tolist()


def worst_error(model: GenerativeModel, base: GenerativeModel, suite: Suite) -> list[float]:
    """Squared error of the reconstruction at the worst point that ``output`` finds."""
    return _error_after("output", model, suite, eps=EPS)


def eigen_error(model: GenerativeModel, base: GenerativeModel, suite: Suite) -> list[float]:
    """Squared error of the reconstruction along the top eigenvectors, in a ball of L2 2."""
    return _error_after("khan", model, suite, eps=2.0, norm="l2", scales=10)


def certified(model: GenerativeModel, base: GenerativeModel, suite: Suite) -> list[float]:
    """The most squared error of the mean's reconstruction under any change within EPS / 2."""
    return [float(v) for v in defences.certified_error(model, _sources(suite), EPS / 2)]


def margin(model: GenerativeModel, base: GenerativeModel, suite: Suite) -> list[float]:
    """Certified L2 radius in which a drawn reconstruction stays within 8 half of the time."""
    return [float(v) for v in defences.lipschitz_margin(model, _sources(suite), 8.0)]


def radius(model: GenerativeModel, base: GenerativeModel, suite: Suite) -> list[float]:
    """Certified L2 radius of the vote of the first scoring judge; 0 where it abstains or errs."""
    judge, images = load_judge(DATASET, suite.scoring_judges[0].architecture), load_images(DATASET)
    assert images.labels is not None, "digits have labels"
    found = defences.certified_radius(
        lambda noisy: judge.labels(base.reconstruct(noisy)),
        *(_sources(suite), SIGMA),
        sample_ids=suite.sample_ids,
    )
    right = found.labels == images.labels[list(suite.sample_ids)]
    return [float(v) for v in torch.where(right, found.radius, 0)]


def bound(model: GenerativeModel, base: GenerativeModel, suite: Suite) -> list[float]:
    """Certified L2 distance that the center moves at most, for a change of length 0.1."""
    found = defences.center_bound(*(base, _sources(suite), SIGMA, 0.1), sample_ids=suite.sample_ids)
    return [float(v) for v in found.bound]


@dataclass(frozen=True)
class Measure:
    """A claim's own measure: how it is done, what it is, and whether any VAE has it."""

    of: Own
    words: str
    of_any: bool = True


OWN = {
    "probe": Measure(probe_kept, f"share read as before, kuzina at {EPS:g}"),
    "worst error": Measure(worst_error, f"squared error, output at {EPS:g}"),
    "eigen error": Measure(eigen_error, "squared error, khan in L2 2"),
    "certified error": Measure(certified, f"certified squared error at {EPS / 2:g}"),
    "margin": Measure(margin, "certified L2 margin, r = 8", of_any=False),
    "radius": Measure(radius, f"certified L2 radius, sigma {SIGMA:g}", of_any=False),
    "bound": Measure(bound, f"certified shift at L2 0.1, sigma {SIGMA:g}", of_any=False),
}


def _sources(suite: Suite) -> torch.Tensor:
    return load_images(DATASET).take(list(suite.sample_ids))


def _error_after(attack: str, model: GenerativeModel, suite: Suite, **settings: Any) -> list[float]:
    x = _sources(suite)
    found = genrobust.attack(attack, model, x, sample_ids=suite.sample_ids, **settings)
    with torch.no_grad():
        return [float(d) ** 2 for d in l2(model.reconstruct(found.x_adv).clamp(0, 1), x)]


# ---- What is done, and kept ----


@dataclass(frozen=True)
class Plan:
    """What every row has in common."""

    runs: Path
    suite: Suite
    steps: int

    def measured(self, name: str, seed: int) -> dict[str, Any] | None:
        """What is kept of a row with a seed; None if it is not done."""
        path = self._kept(name, seed)
        return json.loads(files.read_text(path)) if path.is_file() else None

    def measure(self, name: str, seed: int) -> None:
        try:
            found = self._found(name, seed)
        except GenrobustError as problem:
            found = {REFUSED: str(problem).partition(";")[0]}
        files.write_text(self._kept(name, seed), json.dumps(found) + "\n")

    def _found(self, name: str, seed: int) -> dict[str, Any]:
        row = ROWS[name]
        base = self.trained(row.family, seed)
        model = base if row.wrap is None else row.wrap(base)
        place = self._kept(name, seed)
        found = self._benched(model, self.suite, place.with_suffix(""))
        found["errors"] = _errors(model, self.suite)
        if row.knowing is not None:
            entries = tuple(one for one in self.suite.attacks if one.attack in THROUGH)
            suite = self.suite.model_copy(update={"attacks": entries})
            aware = self._benched(row.knowing(base), suite, place.with_suffix(".knowing"))
            found["knowing"] = aware["areas"]
        own = {key for key in (row.own, *(OWN if name == "vae" else ())) if key}
        found["own"] = {
            key: OWN[key].of(model, base, self.suite)
            for key in sorted(own)
            if key == row.own or OWN[key].of_any
        }
        return found

    def _kept(self, name: str, seed: int) -> Path:
        told = (self.suite.sha256, self.steps, RATE, CHAIN, THROUGH, SIGMA, genrobust.__version__)
        key = hashlib.sha256(repr(told).encode()).hexdigest()[:8]
        return self.runs / f"{name}-seed-{seed}-{key}.json"

    def trained(self, family: str, seed: int) -> GenerativeModel:
        known = recipe(family, DATASET)
        settings: dict[str, Any] = {"steps": self.steps, "learning_rate": RATE}
        if hasattr(known.penalty, "ramp_steps"):
            ramp = max(1, self.steps * 4 // 5)  # as in studies/digits.toml
            settings["penalty"] = known.penalty.model_copy(update={"ramp_steps": ramp})
        folder = self.runs / f"{family}-seed-{seed}-{self.steps}-steps-{RATE:g}"
        weights = folder / f"{family}.safetensors"
        if not weights.is_file():
            train_vae(family, DATASET, known.model_copy(update=settings), folder, seed=seed)
        return load_model(family, DATASET, weights)

    def _benched(self, model: GenerativeModel, suite: Suite, out: Path) -> dict[str, Any]:
        record = genrobust.bench(model, suite, out=out, workers=1)
        outcomes = Outcomes.model_validate_json(files.read_text(out / OUTCOMES))
        return {
            "areas": source_areas(outcomes.worst, record.suite).tolist(),
            "clean": record.scores.clean_accuracy.value,
            "flags": [flag.name for flag in record.flags],
            "seconds": round(record.times.attack_seconds, 1),
        }


@torch.no_grad()
def _errors(model: GenerativeModel, suite: Suite) -> list[float]:
    """Squared error of the clean reconstruction of each source, the mean over draws."""
    x = _sources(suite)
    with seeded(torch.device("cpu"), "defences", "errors"):
        drawn = [model.reconstruct(x).clamp(0, 1) for _ in range(model.draws)]
    return [float(v) for v in sum(l2(image, x).square() for image in drawn) / len(drawn)]


# ---- The page ----


class Means:
    """Means of rows and of their differences, with intervals over sources and seeds."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]], sources: int) -> None:
        self.names, groups, self.cells = list(rows), [], []
        for found in rows.values():
            groups.append(range(len(self.cells), len(self.cells) + len(found)))
            self.cells += found
        self.resamples = Resamples.draw(groups, sources)
        area = np.array([one["areas"] for one in self.cells])
        known = np.array([one.get("knowing", one["areas"]) for one in self.cells])
        self.area = self._of(area)
        self.lowest = self._of(np.minimum(area, known))
        self.error = self._of(np.array([one["errors"] for one in self.cells]))

    def _of(self, values: Array) -> tuple[Array, Array]:
        _, drawn = self.resamples.by_picture(values)
        return self.resamples.means(values.mean(1)), drawn

    def mean(self, of: tuple[Array, Array], name: str) -> Interval:
        i = self.names.index(name)
        return interval(float(of[0][i]), of[1][:, i])

    def difference(self, of: tuple[Array, Array], name: str, other: str) -> Interval:
        i, j = self.names.index(name), self.names.index(other)
        return interval(float(of[0][i] - of[0][j]), of[1][:, i] - of[1][:, j])

    def beaten(self, name: str, others: Sequence[str]) -> tuple[list[str], list[str]]:
        """Those with surely less area; and of them those whose error is not surely lower."""
        area = {other: self.difference(self.lowest, name, other) for other in others}
        less = [other for other in others if (area[other].low or 0) > 0]
        at_equal = [o for o in less if (self.difference(self.error, name, o).low or 0) <= 0]
        return less, at_equal


def page(
    plan: Plan, rows: dict[str, list[dict[str, Any]]], refused: dict[str, str]
) -> tuple[str, Any]:
    """The Markdown, and the numbers; ``refused`` says why a row cannot be scored."""
    means = Means(rows, len(plan.suite.sample_ids))
    undefended = [name for name in rows if not ROWS[name].claim]
    defended = [name for name in rows if ROWS[name].claim]
    best = max(undefended, key=lambda name: means.mean(means.lowest, name).value or 0)
    order = sorted(rows, key=lambda name: -(means.mean(means.lowest, name).value or 0))
    table_rows, numbers, above = [], {}, []
    for name in order:
        found, row = rows[name], ROWS[name]
        lowest = means.mean(means.lowest, name)
        more, error = (means.difference(of, name, best) for of in (means.lowest, means.error))
        less, equal = means.beaten(name, undefended)
        if row.claim and len(equal) == len(undefended):
            above.append(name)
        knowing = any("knowing" in one for one in found)
        flags = sorted({flag for one in found for flag in one["flags"]})
        clean = sum(one["clean"] for one in found) / len(found)
        table_rows.append(
            [
                f"**{name}**" if row.claim else name,
                str(len(found)),
                str(means.mean(means.area, name)),
                str(lowest) if knowing else "the same",
                f"{clean:.2f}",
                str(means.mean(means.error, name)),
                "" if name == best else str(more),
                f"{len(less)}; {len(equal)}" if row.claim else "",
                ", ".join(flags),
            ]
        )
        numbers[name] = {
            "robust_area": vars(means.mean(means.area, name)),
            "lowest": vars(lowest),
            "clean_accuracy": clean,
            "squared_error": vars(means.mean(means.error, name)),
            "area_more_than_best_undefended": vars(more),
            "error_more_than_best_undefended": vars(error),
            "beats": less,
            "beats_at_equal_or_better_error": equal,
            "flags": flags,
            "seeds": len(found),
            "rows": found,
        }
    head = [
        *("model", "seeds", "robust area", "and when attacked knowingly", "clean", "squared error"),
        *(f"area more than {best}", f"beats, of {len(undefended)}", "flags"),
    ]
    claims = [
        [
            f"**{name}**",
            ROWS[name].claim,
            OWN[ROWS[name].own].words,
            _own(rows, name, ROWS[name].own),
            _own(rows, "vae", ROWS[name].own),
            str(means.difference(means.lowest, name, "vae")) if "vae" in rows else "",
            ROWS[name].note,
        ]
        for name in order
        if name in defended
    ]
    claim_head = ["defence", "claimed", "in its own terms", "here", "vae",
                  "robust area more than vae", "the ensemble sees"]  # fmt: skip
    verdict = (
        f"Surely more robust than every undefended one at equal or better error: "
        f"{', '.join(above)}."
        if above
        else "No defence here is surely more robust than every undefended one at equal or better "
        "error."
    )
    missing = [name for name in ROWS if name not in (rows | refused)]
    left_out = "".join(
        f"\nTrained so, **{name}** cannot be scored: {why}.\n" for name, why in refused.items()
    )
    grid = ", ".join(f"{eps:g}" for eps in plan.suite.eps)
    suite = f"{plan.suite.name} v{plan.suite.version} (`{plan.suite.sha256[:12]}`)"
    text = f"""\
Each family trained on digits for {plan.steps:,} steps, with so many seeds as the table says; the
wrappers go round `vae`. Robust area on {len(plan.suite.sample_ids)} sources of {suite}, L-inf
{grid}, by all its {len(plan.suite.attacks)} attacks; squared error of the clean reconstruction of
the same sources, summed over pixels. In brackets 95% intervals over seeds and sources; of one seed
they are over sources alone, and say nothing of another. Defended models are bold.

{table(head, table_rows)}

*Attacked knowingly*: each source by the worse of the two benches, for defences that are attacked in
a second way; of the others the ensemble differentiates all that there is. *Beats*: of how many
undefended models the robust area is surely lower (the paired difference's interval is above 0);
and of how many of those the squared error is not surely better.

{verdict}

## Claimed, and measured again

{table(claim_head, claims)}

*Here* and *vae*: the mean in the claim's own terms, on the same sources, with an interval over
them; certificates hold for no plain VAE. A claim can hold in its own terms where robust area
shows nothing: the attacks of the suite look for another class in the picture, whatever the code
does. None of the papers measured these networks on digits, so that no number of theirs is beside.
The HMC chain has {CHAIN["steps"]} steps of {CHAIN["leapfrog"]} leapfrogs, short enough to be
attacked through, not the paper's 500 of 20; `smoothed` and `center-smoothed` have sigma {SIGMA:g}
round a VAE that was not trained on noise.
{left_out}{f"Not measured yet: {', '.join(missing)}." if missing else ""}

genrobust {genrobust.__version__}, `python benchmarks/defences.py`.
"""
    return text, {"suite": plan.suite.sha256, "steps": plan.steps, "best": best, "models": numbers}


def _own(rows: dict[str, list[dict[str, Any]]], name: str, own: str) -> str:
    found = [one["own"][own] for one in rows.get(name, ()) if own in one["own"]]
    if not found:
        return ""
    resamples = Resamples.draw([range(len(found))], len(found[0]))
    values = np.array(found)
    return str(interval(float(values.mean()), resamples.by_picture(values)[1][:, 0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="keeps models and benches")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=ROWS, metavar="NAME")
    parser.add_argument("--suite", default="digits-v2")
    parser.add_argument("--limit", type=int, help="only the suite's first sources")
    parser.add_argument("--steps", type=int, default=1000, help="as in studies/digits.toml")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--train", action="store_true", help="only train what is to be measured")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    suite = load_suite(given.suite)
    plan = Plan(given.runs, suite.limited(given.limit) if given.limit else suite, given.steps)
    if given.train:
        for seed in range(given.seeds):
            for family in dict.fromkeys(ROWS[name].family for name in given.only):
                plan.trained(family, seed)
                print(f"{family}, seed {seed}", flush=True)
        return
    for seed in range(given.seeds):
        for name in given.only:
            if plan.measured(name, seed) is None:
                plan.measure(name, seed)
                print(f"{name}, seed {seed}", flush=True)
    kept = {
        name: [found for s in range(given.seeds) if (found := plan.measured(name, s))]
        for name in ROWS
    }
    rows = {
        name: some for name, all_ in kept.items() if (some := [f for f in all_ if "areas" in f])
    }
    refused = {name: f[REFUSED] for name, all_ in kept.items() for f in all_ if REFUSED in f}
    if not any(not ROWS[name].claim for name in rows):
        print("no undefended model is measured yet, to compare with")
        return
    text, numbers = page(plan, rows, refused)
    (given.out / "defences.md").write_text(text)
    (given.out / "defences.json").write_text(json.dumps(numbers) + "\n")
    print(text)


if __name__ == "__main__":
    main()
