"""Planted masks: what the ensemble, and the flags, make of models that hide their gradients.

    python benchmarks/masking.py

Writes ``benchmarks/masking.md``. The masks are those of ``genrobust.testing.masks``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import genrobust
from genrobust.models import GenerativeModel
from genrobust.records.record import Record
from genrobust.suites import Suite, load_suite
from genrobust.suites.suite import entries_of
from genrobust.testing.masks import CLASSIC, Mask, rounded

HERE = Path(__file__).parent
EPS = (0.04, 0.06)  # where the plain models stand in part
#: Of the second model only masks of each kind that attacks meet.
SOME = ("quantised output", "through numpy", "rippled gradient", "another gradient")
#: More than a mask: at these radii about half of all pixels are rounded to what they were.
COARSE = Mask("8 levels of input", see=rounded(8), differentiable=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=45)
    given = parser.parse_args()
    began = time.process_time()
    rows = list(measured(given.limit))
    seconds = time.process_time() - began
    (HERE / "masking.md").write_text(table(rows, given.limit, seconds))
    print((HERE / "masking.md").read_text())


def measured(limit: int) -> Iterator[list[str]]:
    """A row a model, mask and way to wrap it."""
    vae, other = genrobust.load_model("vae"), genrobust.load_model("betavae")
    wrong = genrobust.wrap(
        vae.module,
        encode=other.encode,
        decode=other.decode,
        deploy=vae.reconstruct,
        input_shape=vae.input_shape,
    )
    joint = genrobust.load_model("jointvae")
    chosen = [mask for mask in CLASSIC if mask.name in SOME]
    for name, model, masks in (("vae", vae, (*CLASSIC, COARSE)), ("jointvae", joint, chosen)):
        plain = bench(model, limit)
        yield show([name, "none", "", *cells(plain, plain)])
        for mask in masks:
            for way in ("declared", "hidden"):
                masked: GenerativeModel = getattr(mask, way)(model)
                yield show([name, mask.name, way, *cells(bench(masked, limit), plain)])
        if model is vae:
            wrong_cells = cells(bench(wrong, limit), plain)
            yield show([name, "betavae's gradients", "declared", *wrong_cells])


def show(row: list[str]) -> list[str]:
    print(*row, sep=" | ", flush=True)
    return row


def bench(model: GenerativeModel, limit: int) -> Record:
    return genrobust.bench(model, untargeted(), limit=limit, eps=EPS)


def untargeted() -> Suite:
    """``standard`` in full, without its targeted attacks: they do not decide on robust accuracy."""
    return load_suite("digits").model_copy(update={"attacks": entries_of("standard", "untargeted")})


def cells(record: Record, plain: Record) -> list[str]:
    """Clean and robust accuracy with the difference to the plain model, and the flags."""
    found = [f"{100 * record.scores.clean_accuracy.value:.0f}"]
    for at, before in zip(record.scores.per_eps, plain.scores.per_eps, strict=True):
        value = 100 * at.robust_accuracy.value
        more = value - 100 * before.robust_accuracy.value
        found.append(f"{value:.0f}" if record is plain else f"{value:.0f} ({more:+.0f})")
    return [*found, ", ".join(dict.fromkeys(flag.name for flag in record.flags))]


def table(rows: list[list[str]], limit: int, seconds: float) -> str:
    head = ["model", "mask", "wrap", "clean", *(f"eps {eps:g}" for eps in EPS), "flags"]
    lines = [head, ["---"] * len(head), *rows]
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return (
        f"Robust accuracy in percent under `standard` on {limit} sources of digits, L-inf, with "
        "the difference to the model without the mask in points. *Declared*: the masked path is "
        "the deployed one, and attacks differentiate through one that lets gradients pass: a mask "
        "on the input counts as one that does nothing, on code or output it is left out. *Hidden*: "
        "encoder and decoder have the mask inside, and nothing is said but that there is no "
        f"gradient. genrobust {genrobust.__version__}, `python benchmarks/masking.py`, "
        f"{seconds / 60:.0f} minutes of one core.\n\n"
        f"{body}\n"
    )


if __name__ == "__main__":
    main()
