"""What a run costs as it grows, and what it costs to begin.

    python benchmarks/costs.py

Each case is a process of its own, which measures its CPU seconds after its imports, and the most
memory that it held. *Radii* and *sources* are benches of the zoo's VAE on digits, by the suite's
whole ensemble. *Long runs* are of noise alone and a model of one matrix, so that what they take is
the run's own. *Sides* and *latents* are 50 steps of ``output`` on 16 images with an untrained
network. *A pair at a time* is the thesis' attack as it was run, 1000 steps of Adam on one source
and one target, beside ``latent`` on all pairs at once. Writes ``benchmarks/costs.json`` and
``benchmarks/costs.md``; ``--only KIND ...`` measures some kinds anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import genrobust
from genrobust.data import Images
from genrobust.models.networks import ConvVAE, NetworkSpec
from genrobust.seeding import seeded
from genrobust.suites import load_suite

HERE = Path(__file__).parent
SOURCES, EPS = 30, 0.1
RADII = {
    "the largest": (0.1,),
    "the hardest": (0.02,),
    "the suite's": (0.02, 0.04, 0.06, 0.1),
    "eight": (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1),
}
PAIRS = 10
FEW = (5, 10, 20, 40, 80, 160)

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--case", nargs=2, metavar=("KIND", "CASE"), help="of a child")
    given = parser.parse_args()
    if given.case:
        kind, case = given.case
        print(json.dumps(spent(lambda: KINDS[kind][1](case))))
        return
    path = HERE / "costs.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for kind in given.only:
        found[kind] = {case: child(kind, case) for case in KINDS[kind][0]}
        print(kind, found[kind], flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    (HERE / "costs.md").write_text(page(found))
    print((HERE / "costs.md").read_text())


def child(kind: str, case: str) -> Row:
    command = [sys.executable, __file__, "--case", kind, case]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    row: Row = json.loads(text.splitlines()[-1])
    return row


def spent(work: Callable[[], Row]) -> Row:
    """What ``work`` tells, its CPU seconds, and the most memory of the process."""
    began = time.process_time()
    told = work()
    seconds = time.process_time() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    return {"seconds": round(seconds, 2), "memory": round(memory)} | told


# ---- The kinds ----


def radii(case: str) -> Row:
    return bench(RADII[case], SOURCES)


def sources(case: str) -> Row:
    return bench(RADII["the suite's"], int(case))


def bench(eps: tuple[float, ...], limit: int) -> Row:
    suite = load_suite("digits").limited(limit).model_copy(update={"eps": eps})
    record = genrobust.bench("vae", suite, executor="serial")
    return {"passes": record.forwards + record.backwards}


class Matrix(nn.Module):
    """Four numbers of an image."""

    input_shape = (1, 32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 1024) / 1024)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1) @ self.weight.T, torch.zeros(len(x), 4)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(100 * z @ self.weight).view(-1, *self.input_shape)


def long(case: str) -> Row:
    """What is held of a run of so many images of chance: files of shards, and the folder's size."""
    draw = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (int(case), 1, 32, 32), dtype=torch.uint8, generator=draw)
    how: Row = {"eps": [EPS / 2], "attacks": ["noise"], "executor": "serial"}
    with tempfile.TemporaryDirectory() as place:
        data = Images(raw, None, (32, 32))
        genrobust.bench(Matrix(), data=data, sources=int(case), **how, out=place)
        written = [path for path in Path(place).rglob("*") if path.is_file()]
        shards = [path for path in written if path.parent.name == "shards"]
        disk = sum(path.stat().st_size for path in written) / 2**20
    return {"files": len(shards), "disk": round(disk)}


def sides(case: str) -> Row:
    return steps(NetworkSpec(input_shape=(3, int(case), int(case))))


def latents(case: str) -> Row:
    return steps(NetworkSpec(gaussian=int(case)))


def steps(spec: NetworkSpec) -> Row:
    with seeded(torch.device("cpu"), 0):
        model = genrobust.wrap(ConvVAE(spec).eval(), input_shape=spec.input_shape)
        x = model.decode(model.encode(torch.rand(16, *spec.input_shape)).mode())
    began = time.process_time()
    genrobust.attack("output", model, x, target=x.flip(0), eps=EPS, steps=50)
    each = (time.process_time() - began) / 50 / len(x)
    return {"milliseconds": round(1000 * each, 3)}


def pair(case: str) -> Row:
    """Seconds of the attacks, and the share of pairs whose reconstruction shows another class."""
    model, judge = genrobust.load_model("vae"), genrobust.load_judge("digits", "vgg")
    images = genrobust.load_images("digits")
    x, target = images.take(range(PAIRS)), images.take(range(PAIRS, 2 * PAIRS))
    shown = judge.labels(model.reconstruct(x))

    began = time.process_time()
    if case == "one":
        found = [
            genrobust.attack("thesis", model, x[i : i + 1], target=target[i : i + 1], eps=EPS).x_adv
            for i in range(PAIRS)
        ]
        x_adv = torch.cat(found)
    else:
        x_adv = genrobust.attack("latent", model, x, target=target, eps=EPS, steps=int(case)).x_adv
    seconds = time.process_time() - began
    differ = judge.labels(model.reconstruct(x_adv)) != shown
    return {"seconds": round(seconds, 3), "changed": float(differ.double().mean())}


def starts(case: str) -> Row:
    """Seconds of a command from its start to its end."""
    words = STARTS[case]
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(ENTRIES / ENTRY, Path(place, ENTRY))  # a verification is written into it
        words = [word.replace("OUT", place) for word in words]
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=HERE.parent)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    return {"seconds": round(seconds, 2)}


ENTRIES, ENTRY = HERE.parent / "leaderboard/entries", "digits-v2/zoo-vae"
STARTS = {
    "`import genrobust`": ["-c", "import genrobust"],
    **{
        f"`genrobust {command}`": ["-m", "genrobust", *command.split()]
        for command in (
            "--help",
            "check vae",
            "bench --model vae --limit 4 --out OUT",
            f"verify OUT/{ENTRY}",
            "leaderboard build --out OUT/site",
        )
    },
}

KINDS: dict[str, tuple[tuple[str, ...], Callable[[str], Row]]] = {
    "radii": (tuple(RADII), radii),
    "sources": (("15", "30", "60", "90"), sources),
    "long": (("1000", "10000", "100000"), long),
    "sides": (("32", "64", "128", "256"), sides),
    "latents": (("10", "100", "1000"), latents),
    "pair": (("one", *map(str, FEW)), pair),
    "starts": (tuple(STARTS), starts),
}


def page(found: dict[str, dict[str, Row]]) -> str:
    lines = [
        f"CPU seconds of a process ({platform.machine()}), without its imports unless it says so, "
        f"and the most memory that it held. genrobust {genrobust.__version__}, `python "
        "benchmarks/costs.py`.",
        "",
    ]
    for kind, write in WRITERS.items():
        if kind in found:
            lines += [*write(found[kind]), ""]
    return "\n".join(lines)


def _radii(rows: dict[str, Row]) -> list[str]:
    one = rows["the hardest"]["seconds"]
    return [
        f"**Radii**: `vae`, {SOURCES} digits, the suite's ensemble.",
        "",
        *_table(
            ["radii", "CPU, s", "times the hardest", "passes"],
            [
                [
                    ", ".join(f"{e:g}" for e in RADII[case]),
                    f"{row['seconds']:.1f}",
                    f"{row['seconds'] / one:.2f}",
                    f"{row['passes']:,}",
                ]
                for case, row in rows.items()
            ],
        ),
    ]


def _sources(rows: dict[str, Row]) -> list[str]:
    return [
        "**Sources**: `vae` on digits, four radii.",
        "",
        *_table(
            ["sources", "CPU, s", "a source, s", "passes a source", "memory, MiB"],
            [
                [
                    case,
                    f"{row['seconds']:.1f}",
                    f"{row['seconds'] / int(case):.2f}",
                    f"{row['passes'] / int(case):,.0f}",
                    str(row["memory"]),
                ]
                for case, row in rows.items()
            ],
        ),
    ]


def _long(rows: dict[str, Row]) -> list[str]:
    return [
        "**Long runs**: a model of one matrix, images of 32 x 32, noise at one radius; what is "
        "left is the run's own.",
        "",
        *_table(
            ["sources", "CPU, s", "a source, ms", "memory, MiB", "files of shards", "disk, MiB"],
            [
                [
                    f"{int(case):,}",
                    f"{row['seconds']:.1f}",
                    f"{1000 * row['seconds'] / int(case):.2f}",
                    str(row["memory"]),
                    str(row["files"]),
                    str(row["disk"]),
                ]
                for case, row in rows.items()
            ],
        ),
    ]


def _grown(kind: str, what: str) -> Callable[[dict[str, Row]], list[str]]:
    def write(rows: dict[str, Row]) -> list[str]:
        return [
            f"**{kind}**: {what}.",
            "",
            *_table(
                [kind.lower(), "a step an image, ms", "memory, MiB"],
                [
                    [case, f"{row['milliseconds']:.2f}", str(row["memory"])]
                    for case, row in rows.items()
                ],
            ),
        ]

    return write


def _pair(rows: dict[str, Row]) -> list[str]:
    one = rows["one"]

    def cells(attack: str, steps: str, row: Row) -> list[str]:
        faster = f"{one['seconds'] / row['seconds']:.0f}"
        return [
            attack,
            steps,
            f"{100 * row['changed']:.0f}",
            f"{row['seconds'] / PAIRS:.3f}",
            faster,
        ]

    alone = cells("thesis, a pair at a time", "1000", one)
    together = [cells("latent, all at once", str(count), rows[str(count)]) for count in FEW]
    return [
        f"**A pair at a time**: {PAIRS} pairs of digits, `vae`, L-inf {EPS:g}; another class by a "
        "judge that no attack saw.",
        "",
        *_table(
            ["attack", "steps", "changed, %", "CPU a pair, s", "times faster"], [alone, *together]
        ),
    ]


def _starts(rows: dict[str, Row]) -> list[str]:
    return [
        "**Commands**, from their start to their end, imports included.",
        "",
        *_table(
            ["command", "CPU, s"],
            [[case, f"{row['seconds']:.1f}"] for case, row in rows.items()],
        ),
    ]


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


WRITERS: dict[str, Callable[[dict[str, Row]], list[str]]] = {
    "starts": _starts,
    "radii": _radii,
    "sources": _sources,
    "long": _long,
    "sides": _grown("Side", "50 steps of `output` on 16 colour images of that height and width"),
    "latents": _grown("Latents", "the same on grey images of 32 x 32, by size of the code"),
    "pair": _pair,
}

if __name__ == "__main__":
    main()
