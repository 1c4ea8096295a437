"""Published CelebA and dSprites VAEs on drawn pictures, with judges and without labels.

    python benchmarks/own_data.py --checkpoints FOLDER --data-root FOLDER

Writes ``benchmarks/own_data.json`` and ``benchmarks/own_data.md``. What is in the former is not
run again; what is missing is said and left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import genrobust
from genrobust.errors import GenrobustError
from genrobust.records.record import Estimate, Record
from genrobust.rules.line import LINE

HERE = Path(__file__).parent
KEPT, PAGE = HERE / "own_data.json", HERE / "own_data.md"

ATTRIBUTES = ("Smiling", "Male", "Eyeglasses")
#: What is benched: data; judges, of which the first attacks and the other scores (none: by damage,
#: without labels); radii in steps of 1/255.
SUITES: tuple[tuple[str, tuple[str, ...], tuple[int, ...]], ...] = (
    ("celeba", (), (8, 16, 32)),
    ("sprites", (), (4, 8, 16)),
    *((f"celeba:{name}", ("resnet", "vgg"), (4, 8, 16)) for name in ATTRIBUTES),
)
MODELS = ("disvae_VAE", "disvae_btcvae", "jointvae")
REPOSITORIES = {"disvae": "YannDubs/disentangling-vae", "jointvae": "Schlumberger/joint-vae"}

#: Of the whole test split.
WHOLE = ("squared error", "nats", "overlap")

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--sources", type=int, default=50)
    parser.add_argument("--only", default="", help="of the data and rule, such as 'sprites damage'")
    given = parser.parse_args()
    for data, judges, steps in SUITES:
        rule = "agreement" if judges else "damage"
        for model in MODELS:
            name = f"{model}_{'dsprites' if data == 'sprites' else 'celeba'}"
            key = f"{name} {data} {rule} {given.sources}"
            if key in kept() or given.only not in key:
                continue
            try:
                row = run(name, data, judges, steps, given)
            except GenrobustError as problem:
                print(f"left out: {key}: {problem}", file=sys.stderr)
                continue
            KEPT.write_text(json.dumps(kept() | {key: row}, indent=1) + "\n")
    PAGE.write_text(page(list(kept().values())))


def kept() -> dict[str, Row]:
    """The rows there are, which another process may add to."""
    rows: dict[str, Row] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return rows


def run(
    name: str, data: str, judges: tuple[str, ...], steps: tuple[int, ...], given: argparse.Namespace
) -> Row:
    """A row of the table."""
    weights = given.checkpoints / f"{name}.pt"
    family, what = name.split("_")[0], name.split("_")[-1]
    example = HERE.parent / "examples" / f"{family}_checkpoint.py"
    model = genrobust.load_model(f"{example}:{what}", data, weights)
    record = genrobust.bench(
        model, data=data, sources=given.sources, judge=judges, eps=[step / 255 for step in steps],
        data_root=given.data_root, workers=1, name=name,
    )  # fmt: skip
    print(record, flush=True)
    return {
        "model": name,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "data": data,
        "rule": record.suite.rule,
        "steps": steps,
        **scores(record),
        "whole": reconstruction(model, data, given.data_root),
    }


def scores(record: Record) -> Row:
    """What the table shows of a record, and which suite it is of."""
    found, damage = record.scores, record.scores.damage
    assert damage is not None
    return {
        "suite_sha256": record.suite_sha256,
        "judges": {judge.name: judge.sha256 for judge in record.judges},
        "sources": found.sources,
        "clean": interval(found.clean_accuracy),
        "error": interval(found.reconstruction_error),
        "robust": [interval(at.robust_accuracy) for at in found.per_eps],
        "damage": {
            "clean": damage.clean.distance.value,
            "constant": damage.constant,
            "noise": [at.noise.distance.value for at in damage.per_eps],
            "attacked": [interval(at.attacked.distance) for at in damage.per_eps],
            "to_target": [at.to_target for at in damage.per_eps],
        },
        "flags": {flag.name: flag.evidence for flag in record.flags},
    }


def interval(estimate: Estimate) -> list[float]:
    return [round(v, 4) for v in (estimate.value, estimate.low, estimate.high)]


@torch.no_grad()
def reconstruction(model: genrobust.GenerativeModel, data: str, root: Path) -> Row:
    """Means over the whole test split, as the page says."""
    images = genrobust.load_images(data, "test", root)
    found: dict[str, list[torch.Tensor]] = {name: [] for name in WHOLE}
    for ids in torch.arange(len(images)).split(100):
        x = images.take(ids)
        y = model.reconstruct(x)
        found["squared error"].append((y - x).square().sum((1, 2, 3)))
        sure = y.clamp(1e-6, 1 - 1e-6)
        found["nats"].append(F.binary_cross_entropy(sure, x, reduction="none").sum((1, 2, 3)))
        if data == "sprites":
            both, either = (x > 0.5) & (y > 0.5), (x > 0.5) | (y > 0.5)
            found["overlap"].append(both.sum((1, 2, 3)) / either.sum((1, 2, 3)))
    return {name: round(float(torch.cat(v).mean()), 3) for name, v in found.items() if v}


def page(rows: list[Row]) -> str:
    shown = {data: place for place, (data, _, _) in enumerate(SUITES)}
    rows = sorted(rows, key=lambda row: (shown[row["data"]], row["model"]))
    parts = [
        "# Published VAEs on drawn pictures",
        f"genrobust {genrobust.__version__}, `python benchmarks/own_data.py`; L-inf. Weights as "
        + " and ".join(f"{where} (`{who}_*`)" for who, where in REPOSITORIES.items())
        + " published them, by the sha256 of the file. *Clean*: percent of the sources that are "
        "reconstructed right without an attack, which by damage means nearer than 0.9 of the "
        "distance of the best single picture for all; then robust accuracy at each radius, with "
        "95% intervals over the sources. *Error*: squared error of the clean reconstruction, "
        "summed over pixels. *Damage*: mean L2 distance of the reconstruction from its source: "
        "clean, under random noise of the largest radius, the worst that was found there, and "
        "that of the best single picture. *Left*: of the way to the target's reconstruction, "
        "percent that a short search for it left.",
    ]
    for (data, sources), found in groupby(rows, key=lambda row: (row["data"], row["sources"])):
        parts += _suite(data, sources, list(found))
    parts += _not_measured(rows)
    parts += [
        "## How well they reconstruct",
        "Means over the whole test split: squared error and cross-entropy (nats), both summed over "
        "pixels, and for sprites the intersection over union of what is white. Sprites are drawn "
        "by genrobust on the grid of dSprites; no image of dSprites was used.",
        _table(
            ["model", "data", "squared error", "nats", "overlap"],
            [
                [row["model"], row["data"], *(f"{row['whole'].get(k, '')}" for k in WHOLE)]
                for row in rows
                if row["rule"] == "damage"
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _suite(data: str, sources: int, rows: list[Row]) -> list[str]:
    judges, steps = list(rows[0]["judges"]), rows[0]["steps"]
    one = {row["suite_sha256"] for row in rows}
    assert len(one) == 1, f"{data}: the models were measured on different suites"
    how = "without labels, by damage"
    if judges:
        how = f"by the judge {judges[1]}, which attacks do not see; they see {judges[0]}"
    flags = [
        f"{row['model']}: {name} ({said})" for row in rows for name, said in row["flags"].items()
    ]
    words = f"{sources} sources; suite `{one.pop()[:12]}`."
    if len(rows) > 1:
        most, least = (pick(rows, key=_area) for pick in (max, min))
        words += (
            f" Of these models {most['model']} has the largest mean of the robust accuracies, "
            f"{100 * _area(most):.0f}%, and {least['model']} the smallest, "
            f"{100 * _area(least):.0f}%."
        )
    return [
        f"## {data}, {how}",
        words + "".join(map(_by_noise, rows)),
        _table(
            ["model, sha256", "clean"]
            + [f"{step}/255" for step in steps]
            + ["error", "damage: clean, noise, worst, constant", "left"],
            [
                [
                    f"{row['model']} `{row['weights_sha256'][:12]}`",
                    *map(_percent, (row["clean"], *row["robust"])),
                    "{:.1f} [{:.1f}, {:.1f}]".format(*row["error"]),
                    _damage(row["damage"]),
                    f"{100 * row['damage']['to_target'][-1]:.0f}",
                ]
                for row in rows
            ],
        ),
        "Flags: " + ("; ".join(flags) if flags else "none") + ".",
    ]


def _by_noise(row: Row) -> str:
    """Where random noise alone takes the mean picture beyond what counts as its source."""
    line = LINE * row["damage"]["constant"]
    noise = zip(row["steps"], row["damage"]["noise"], strict=True)
    beyond = [f"{step}/255 ({mean:.1f})" for step, mean in noise if mean >= line]
    if not beyond:
        return ""
    return (
        f" **Random noise alone breaks {row['model']}**: under it the mean distance from the "
        f"source is beyond what counts as the source ({line:.1f}) at {', '.join(beyond)}, so that "
        "its robust accuracy there says little of the attacks."
    )


def _not_measured(rows: list[Row]) -> list[str]:
    known = {(row["data"], row["model"]) for row in rows}
    missing = [
        f"{name} on {data}"
        for data, _, _ in SUITES
        for model in MODELS
        if (data, name := f"{model}_{'dsprites' if data == 'sprites' else 'celeba'}") not in known
    ]
    return [f"Not measured yet: {', '.join(missing)}."] if missing else []


def _area(row: Row) -> float:
    found: float = sum(value for value, _, _ in row["robust"]) / len(row["robust"])
    return found


def _percent(estimate: list[float]) -> str:
    value, low, high = (f"{100 * v:.0f}" for v in estimate)
    return f"{value} [{low}, {high}]"


def _damage(damage: Row) -> str:
    worst = "{:.1f} [{:.1f}, {:.1f}]".format(*damage["attacked"][-1])
    clean, noise, one = damage["clean"], damage["noise"][-1], damage["constant"]
    return f"{clean:.1f}, {noise:.1f}, {worst}, {one:.1f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
