"""Make the leaderboard's own entries: bench each model, and submit it.

    python benchmarks/entries.py --suite digits
    python benchmarks/entries.py --suite mnist --data-root FOLDER --checkpoints FOLDER

The checkpoints are those of Schlumberger/joint-vae and YannDubs/disentangling-vae (MIT); the
entries name their source and hash. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent.parent
JOINT = "https://github.com/Schlumberger/joint-vae"
DISENTANGLING = "https://github.com/YannDubs/disentangling-vae"
DUBOIS = (
    "Yann Dubois, disentangling-vae",
    "Alexandros Kastanos, disentangling-vae",
    "Dave Lines, disentangling-vae",
    "Bart Melman, disentangling-vae",
)


@dataclass(frozen=True)
class Published:
    """A checkpoint that others trained: file, name, family, paper, and where it is."""

    weights: str
    name: str
    family: str
    paper: str
    folder: str
    authors: tuple[str, ...] = DUBOIS
    note: str = "Network of Burgess et al. 2018, 10 latents; trained by its authors."


@dataclass(frozen=True)
class Own:
    """A model of the zoo."""

    model: str
    name: str
    family: str
    paper: str


PUBLISHED = (
    Published(
        "jointvae_mnist.pt",
        "JointVAE (joint-vae)",
        "JointVAE",
        "https://arxiv.org/abs/1804.00104",
        f"{JOINT}/tree/master/trained_models/mnist",
        ("Emilien Dupont, Schlumberger",),
        "10 continuous latents and one of 10 classes; trained by its author.",
    ),
    Published(
        "disvae_VAE_mnist.pt",
        "VAE (disentangling-vae)",
        "VAE",
        "https://arxiv.org/abs/1312.6114",
        f"{DISENTANGLING}/tree/master/results/VAE_mnist",
    ),
    Published(
        "disvae_betaH_mnist.pt",
        "β-VAE, β = 4 (disentangling-vae)",
        "β-VAE",
        "https://openreview.net/forum?id=Sy2fzU9gl",
        f"{DISENTANGLING}/tree/master/results/betaH_mnist",
    ),
    Published(
        "disvae_btcvae_mnist.pt",
        "β-TCVAE (disentangling-vae)",
        "β-TCVAE",
        "https://arxiv.org/abs/1802.04942",
        f"{DISENTANGLING}/tree/master/results/btcvae_mnist",
    ),
    Published(
        "disvae_factor_mnist.pt",
        "FactorVAE (disentangling-vae)",
        "FactorVAE",
        "https://arxiv.org/abs/1802.05983",
        f"{DISENTANGLING}/tree/master/results/factor_mnist",
    ),
)

OWN = (
    Own("vae", "VAE (zoo)", "VAE", "https://arxiv.org/abs/1312.6114"),
    Own("vae-wd", "VAE with weight decay (zoo)", "VAE", "https://arxiv.org/abs/1312.6114"),
    Own("betavae", "β-VAE (zoo)", "β-VAE", "https://openreview.net/forum?id=Sy2fzU9gl"),
    Own(
        "betavae-capacity",
        "β-VAE with capacity (zoo)",
        "β-VAE",
        "https://arxiv.org/abs/1804.03599",
    ),
    Own("jointvae", "JointVAE (zoo)", "JointVAE", "https://arxiv.org/abs/1804.00104"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="digits")
    parser.add_argument("--data-root")
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--only", nargs="*", help="zoo names and checkpoint files; default all")
    parser.add_argument("--runs", type=Path, default=Path("genrobust-runs/entries"))
    parser.add_argument("--entries", type=Path, default=HERE / "leaderboard" / "entries")
    given = parser.parse_args()
    for one in (*PUBLISHED, *OWN):
        key = one.weights if isinstance(one, Published) else one.model
        if given.only and key not in given.only:
            continue
        if isinstance(one, Published) and given.checkpoints is None:
            continue
        make(one, key, given)


def make(one: Published | Own, key: str, given: argparse.Namespace) -> None:
    """Bench and submit one model."""
    runs = given.runs / key.removesuffix(".pt")
    data = ["--data-root", given.data_root] if given.data_root else []
    if isinstance(one, Published):
        family = one.weights.split("_")[0]
        weights = ["--weights", str(given.checkpoints / one.weights)]
        model = [f"examples/{family}_checkpoint.py:build", *weights]
        about = [*(word for author in one.authors for word in ("--author", author))]
        about += ["--licence", "MIT", "--source", one.folder, "--note", one.note]
        about += ["--link", f"weights={one.folder}", "--training-data", "MNIST, training split"]
        about += ["--model", *model]
    else:
        model = [one.model]
        about = ["--author", "genrobust", "--licence", "MIT"]
        about += ["--training-data", f"{given.suite}, training split"]
        about += ["--note", "Ships with genrobust; its card says how it was trained."]
    about += ["--name", one.name, "--family", one.family, "--link", f"paper={one.paper}"]
    about += ["--slug", f"zoo-{key}" if isinstance(one, Own) else slug(key)]
    # What others published is scored as it is, and not handed on: it goes without --evidence.
    bench = ["bench", "--model", *model, "--suite", given.suite]
    bench += ["--evidence"] if isinstance(one, Own) else []
    run("genrobust", *bench, "--out", str(runs), *data)
    (record,) = runs.glob(f"{given.suite}-v*/*/record.json")
    run(
        *("genrobust", "submit", str(record.parent), *about, *data),
        *("--entries", str(given.entries), "--yes"),
    )


def slug(weights: str) -> str:
    """The entry's folder."""
    return weights.removesuffix(".pt").replace("_", "-").lower()


def run(program: str, *words: str) -> None:
    """Run a command of the package in the repository's root, and show what it says."""
    subprocess.run([sys.executable, "-m", program, *words], check=True, cwd=HERE)


if __name__ == "__main__":
    main()
