"""Every published attack, and foolbox's and ART's, beside ``standard`` on published MNIST models.

    python benchmarks/attacks.py --data-root FOLDER --checkpoints FOLDER

The checkpoints are those of ``benchmarks/thesis.py``. What is done is kept in
``benchmarks/attacks.json``, so that a stopped run goes on; ``--only`` and ``--models`` choose some.
Writes ``benchmarks/attacks.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import genrobust
from genrobust import files
from genrobust.attacks import ATTACKS, Attack, make_attack
from genrobust.batch import Batch, Context, Goal
from genrobust.norms import load_norm
from genrobust.optimizers import Minimum, Problem
from genrobust.records.record import SCHEMA_VERSION
from genrobust.runner import radii
from genrobust.runner.signs import Diagnosis
from genrobust.suites.suite import AttackEntry, Suite, entries_of, load_suite
from genrobust.threat import ThreatModel

EPS = (0.01, 0.02, 0.05, 0.1)
HERE = Path(__file__).parent

#: For the members of ART's AutoAttack, of which two run in it.
AUTOATTACK: dict[str, dict[str, Any]] = {
    "AutoProjectedGradientDescent": {"max_iter": 40, "nb_random_init": 1},
    "DeepFool": {"max_iter": 4},
    "SquareAttack": {"max_iter": 100, "nb_restarts": 1},
}

#: The attacks, and where their own budget would take days on a laptop, what they get in its place.
ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("standard", {}),
    ("noise", {}),
    ("fgsm", {}),
    ("bim", {}),
    ("pgd", {}),
    ("thesis", {"steps": 300}),
    ("art:ProjectedGradientDescent", {"max_iter": 40}),
    ("foolbox:LinfPGD", {}),
    ("foolbox:LinfPGD", {"surrogate": "softmax"}),
    ("art:AutoProjectedGradientDescent", {"max_iter": 40, "nb_random_init": 1}),
    ("photoguard", {"steps": 50}),
    ("kuzina", {"steps": 50, "restarts": 1}),
    ("kuzina-supervised", {"steps": 100}),
    ("kuzina-linearised", {"steps": 50, "chains": 1}),
    ("kos-latent", {"steps": 50}),
    ("kos-lvae", {"steps": 40}),
    ("kos-classifier", {"steps": 50, "epochs": 20}),
    ("gondim-latent", {"points": 1, "steps": 50, "learning_rate": 0.01}),
    ("gondim-output", {"points": 1, "steps": 25, "learning_rate": 0.01}),
    ("alma", {"passes": 40, "learning_rate": 0.0025}),
    ("grill", {"passes": 40, "learning_rate": 0.0025}),
    ("khan", {"scales": 8}),
    ("square", {"queries": 100}),
    ("art:SquareAttack", {}),
    ("foolbox:LinfDeepFoolAttack", {"steps": 15, "candidates": 3}),
    ("art:DeepFool", {"max_iter": 10, "batch_size": 50}),
    ("foolbox:LInfFMNAttack", {"steps": 40}),
    ("foolbox:DDNAttack", {"steps": 40}),
    ("carlini-wagner", {"steps": 25, "searches": 2, "initial": 1.0, "learning_rate": 0.05}),
    (
        "foolbox:L2CarliniWagnerAttack",
        {"steps": 25, "binary_search_steps": 2, "initial_const": 1.0, "stepsize": 0.05},
    ),
    ("art:CarliniL2Method", {"binary_search_steps": 1, "batch_size": 50}),
    ("tabacof", {"points": 2, "iterations": 12}),
    ("willetts-kl", {"points": 2, "iterations": 12}),
    ("willetts-w2", {"points": 2, "iterations": 12}),
    ("willetts-output", {"points": 2, "iterations": 8}),
    ("sabour", {"iterations": 20}),
    ("camuto", {"restarts": 1, "iterations": 10}),
    ("szegedy", {"searches": 2, "iterations": 4}),
    ("autoattack", {"members": AUTOATTACK}),
    (
        "art:CarliniLInfMethod",
        {"initial_const": 10.0, "learning_rate": 0.05, "decrease_factor": 0.5},
    ),
)

#: How tables call what is registered here.
NAMES = {"autoattack": "art:AutoAttack"}

#: Attacks that run for one of their goals, so as to have more steps in the same time.
UNTARGETED = ("square", "carlini-wagner")


@ATTACKS.register("cut")
@dataclass(frozen=True)
class Cut(Attack):
    """An attack in L2, what it finds cut to the L-inf ball.

    It searches without a ball, or if it needs one, in the smallest that holds the L-inf ball.

    Args:
        attack: its name.
        settings_of: its settings.
    """

    name = "cut"
    paper = "genrobust"
    norms = ("linf",)
    needs_judge = True

    attack: str = "carlini-wagner"
    settings_of: dict[str, Any] = field(default_factory=dict)

    def search(self, context: Context, threat: ThreatModel) -> tuple[Problem, Minimum]:
        attack = make_attack(self.attack, self.settings_of)
        x = context.batch.x
        around = threat.eps * math.sqrt(x[0].numel()) if attack.needs_ball else math.inf
        problem, found = attack.search(context, ThreatModel("l2", around))
        found.x = threat.project(found.x, x)
        return problem, found


@ATTACKS.register("autoattack")
@dataclass(frozen=True, kw_only=True)
class AutoAttack(ATTACKS.get("art:AutoAttack")):  # type: ignore[misc]
    """ART's AutoAttack with smaller budgets for its members, which are no settings there.

    Args:
        members: the settings of each, by the name of its class.
    """

    goals = ("untargeted",)

    members: dict[str, dict[str, Any]] = field(default_factory=dict)

    def library_settings(self) -> dict[str, Any]:
        return {k: v for k, v in super().library_settings().items() if k != "members"}

    def _attack(self, classifier: Any, batch: Batch, threat: ThreatModel) -> Any:
        whole = super()._attack(classifier, batch, threat)
        for member in whole.attacks:
            member.set_params(verbose=False, **self.members.get(type(member).__name__, {}))
        return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--only", nargs="*", help="these attacks")
    parser.add_argument("--models", nargs="*", help="these checkpoints, such as jointvae_mnist")
    parser.add_argument("--kept", type=Path, default=HERE / "attacks.json")
    parser.add_argument("--out", type=Path, default=HERE / "attacks.md")
    given = parser.parse_args()
    radii.diagnose = once(radii.diagnose)
    kept: dict[str, Any] = json.loads(given.kept.read_text()) if given.kept.exists() else {}
    checkpoints = sorted(given.checkpoints.glob("*_mnist.pt"))
    for name, settings in ROWS:
        for weights in checkpoints:
            chosen = weights.stem in (given.models or [weights.stem])
            if not chosen or name not in (given.only or [name]):
                continue
            suite = suite_of(name, settings).limited(given.limit).with_eps(list(EPS))
            of_model = kept.setdefault(weights.stem, {})
            # What an earlier search of the radii found is not passed off as this one's.
            measured_as = f"{SCHEMA_VERSION}{suite.sha256}{digest(weights)}"
            identity = hashlib.sha256(measured_as.encode()).hexdigest()
            if of_model.get(label(name, settings), {}).get("identity") == identity:
                continue
            warm(weights, given.limit, given.data_root)
            measured = {"identity": identity, **measure(weights, suite, given.data_root)}
            of_model[label(name, settings)] = measured
            files.write_text(given.kept, json.dumps(kept, indent=1) + "\n")
            print(weights.stem, label(name, settings), measured["robust"], measured["seconds"])
    text = table(kept, checkpoints, given.limit)
    given.out.write_text(text)
    print(text)


def once(diagnose: Callable[..., Diagnosis]) -> Callable[..., Diagnosis]:
    """The evidence for flags is the same for every attack on a model: it is computed once."""
    known: dict[tuple[str, tuple[int, ...]], Diagnosis] = {}

    def remembered(model: genrobust.GenerativeModel, batch: Batch, *rest: Any) -> Diagnosis:
        key = (model.fingerprint(), batch.sample_ids)
        if key not in known:
            known[key] = diagnose(model, batch, *rest)
        return known[key]

    return remembered


def suite_of(name: str, settings: dict[str, Any]) -> Suite:
    """The MNIST suite with one attack, for each goal it has."""
    suite = load_suite("mnist")
    kind = ATTACKS.get(name)
    alone = name in UNTARGETED or (":" in name and "untargeted" in kind.goals)
    goals: tuple[Goal, ...] = ("untargeted",) if alone else kind.goals
    entries: list[AttackEntry] = []
    for goal in goals:
        if name == "standard":
            entries += entries_of(name, goal)
        elif kind.supports(load_norm("linf")):
            entries.append(AttackEntry(attack=name, goal=goal, settings=settings))
        else:
            wrapped = {"attack": name, "settings_of": settings}
            entries.append(AttackEntry(attack="cut", goal=goal, settings=wrapped))
    update = {"attacks": tuple(entries), "ensemble": name == "standard"}
    return suite.model_copy(update=update)


def measure(weights: Path, suite: Suite, data_root: str) -> dict[str, Any]:
    record = genrobust.bench(load(weights), suite, workers=1, data_root=data_root)
    scores = record.scores
    return {
        "genrobust": genrobust.__version__,
        "sources": scores.sources,
        "eligible": scores.eligible,
        "robust": [at.robust_accuracy.value for at in scores.per_eps],
        "seconds": record.times.attack_seconds,
        "forwards": record.forwards,
        "backwards": record.backwards,
        "members": {a.label: {"tried": a.tried, "succeeded": a.succeeded} for a in record.attacks},
    }


@cache
def warm(weights: Path, limit: int, data_root: str) -> None:
    """Compute the evidence for flags, that it be in no attack's seconds."""
    measure(weights, suite_of("noise", {}).limited(limit).with_eps(list(EPS)), data_root)


@cache
def load(weights: Path) -> genrobust.GenerativeModel:
    place = HERE.parent / "examples" / f"{weights.stem.split('_')[0]}_checkpoint.py"
    return genrobust.load_model(f"{place}:build", dataset="mnist", weights=weights)


@cache
def digest(weights: Path) -> str:
    return hashlib.sha256(weights.read_bytes()).hexdigest()[:12]


def label(name: str, settings: dict[str, Any]) -> str:
    path = settings.get("surrogate")
    return f"{name}, {path}" if path else NAMES.get(name, name)


def table(kept: dict[str, Any], checkpoints: list[Path], limit: int) -> str:
    """The page: what it shows, the counts, and how budgets were reduced."""
    models = [weights for weights in checkpoints if "standard" in kept.get(weights.stem, {})]
    labels = [label(*row) for row in ROWS]
    head = ["attack", *(short(weights) for weights in models), "seconds", "passes, 1000"]
    rows = []
    for name in labels:
        found = [kept[weights.stem].get(name) for weights in models]
        rows.append([name, *map(cell, found), *cost([one for one in found if one])])
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    names = ", ".join(f"{w.stem} `{digest(w)}`" for w in models)
    less = "\n".join(f"- {label(*row)}: {reduction(*row)}" for row in ROWS if row[1])
    grid = ", ".join(f"{eps:g}" for eps in EPS)
    return (
        f"{verdict(kept, models, labels)}\n\n"
        f"How many of the first {limit} MNIST test images still stand under each attack alone, at "
        f"L-inf {grid}: reconstructed right, and changed to another class by the two "
        "scoring judges' verdict in none of its goals at that or a smaller eps. Seconds are on one "
        "thread of a busy machine, passes are images forward and gradients backward, both summed "
        f"over models and eps. {names}; genrobust {genrobust.__version__}, `python "
        f"benchmarks/attacks.py`.\n\n{body}\n\n"
        "Attacks that work in L2 alone search without a ball, or in the smallest L2 ball around "
        "the L-inf ball, and are cut to it. Attacks of foolbox and ART see the deployed path where "
        "nothing else is said, and are untargeted; so are "
        f"{' and '.join(UNTARGETED)}. Settings other than the defaults, most of them to bring the "
        f"cost down:\n\n{less}\n"
    )


def verdict(kept: dict[str, Any], models: list[Path], labels: list[str]) -> str:
    """Whether ``standard`` is at or below every other attack, in a sentence."""
    others = [name for name in labels if name != "standard"]
    above, compared = [], 0
    for weights in models:
        known = kept[weights.stem]
        for name in others:
            if name not in known:
                continue
            compared += 1
            for eps, ours, its in zip(
                EPS, known["standard"]["robust"], known[name]["robust"], strict=True
            ):
                if ours > its:
                    above.append(f"{name} on {weights.stem} at {eps:g}")
    missing = len(others) * len(models) - compared
    left = f", {missing} still to be run and blank below" if missing else ""
    everything = f"{len(others)} other attacks on {len(models)} models ({compared} pairs{left})"
    if not above:
        return f"`standard` leaves at most as many standing as each of {everything}, at every eps."
    return f"`standard` is above {', '.join(above)}; of {everything}, at every eps."


def cell(measured: dict[str, Any] | None) -> str:
    if measured is None:
        return ""
    return " ".join(f"{measured['sources'] * value:.0f}" for value in measured["robust"])


def cost(found: list[dict[str, Any]]) -> tuple[str, str]:
    """Seconds, and thousands of passes."""
    passes = sum(one["forwards"] + one["backwards"] for one in found)
    return f"{sum(one['seconds'] for one in found):,.0f}", f"{passes / 1000:,.0f}"


def short(weights: Path) -> str:
    return weights.stem.removesuffix("_mnist").replace("_", " ")


def reduction(name: str, settings: dict[str, Any]) -> str:
    """The settings with their defaults behind them."""
    own = {} if name in NAMES else make_attack(name).settings()
    return "; ".join(
        f"{key} {value}" + (f" (default {own[key]})" if key in own else "")
        for key, value in settings.items()
    )


if __name__ == "__main__":
    main()
