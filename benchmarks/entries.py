"""Make the leaderboard's own entries: bench each model, and submit it.

    python benchmarks/entries.py --suite digits
    python benchmarks/entries.py --suite mnist --data-root FOLDER --checkpoints FOLDER

The checkpoints are those of Schlumberger/joint-vae and YannDubs/disentangling-vae (MIT); the
entries name their source and hash. Defended models are trained first, on digits, for 20 to 40
minutes of one core each; their weights go along with their entries. What is done already is not
done again.
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


#: Twice the zoo's rate brings the error of defended models closer to that of the zoo's.
FASTER = ("learning_rate=0.001",)


@dataclass(frozen=True)
class Defended:
    """A family that is trained against attacks, by one seed of a recipe.

    ``changed`` is what differs from what ``genrobust train`` does by itself.
    """

    model: str
    seed: int
    name: str
    paper: str
    recipe: str
    changed: tuple[str, ...] = FASTER

    @property
    def key(self) -> str:
        """What it is called here, and its entry's folder."""
        return f"{self.recipe}-seed-{self.seed}"


Model = Published | Own | Defended

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

MADRY = "https://arxiv.org/abs/1706.06083"
#: With less KL the reconstruction error falls below that of all undefended models.
QUARTER_KL = (*FASTER, "penalty.beta=0.25", "steps=8000")
#: Of the attacks in training: too few, as it turned out.
TWO_STEPS = (*FASTER, "penalty.beta=0.5", "penalty.attack_steps=2")
DEFENDED = (
    Defended("adversarial-vae", 0, "Adversarially trained VAE", MADRY, "adversarial-vae"),
    *(
        Defended(
            *("adversarial-vae", seed, f"Adversarially trained VAE, quarter KL, seed {seed}"),
            *(MADRY, "adversarial-vae-quarter-kl", QUARTER_KL),
        )
        for seed in range(4)
    ),
    Defended(
        *("adversarial-vae", 0, "Adversarially trained VAE, by two steps", MADRY),
        *("adversarial-vae-two-steps", TWO_STEPS),
    ),
    Defended(
        *("fare-vae", 0, "VAE with a robust encoder (FARE)"),
        *("https://arxiv.org/abs/2402.12336", "fare-vae"),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="digits")
    parser.add_argument("--data-root")
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--only", nargs="*", help="zoo names, checkpoint files, RECIPE-seed-N")
    parser.add_argument("--runs", type=Path, default=Path("genrobust-runs/entries"))
    parser.add_argument("--entries", type=Path, default=HERE / "leaderboard" / "entries")
    given = parser.parse_args()
    models: list[tuple[str, Model]] = [(one.model, one) for one in OWN]
    if given.checkpoints is not None:
        models += [(one.weights, one) for one in PUBLISHED]
    if given.suite == "digits":
        models += [(one.key, one) for one in DEFENDED]
    for key, one in models:
        if not given.only or key in given.only:
            make(one, key, given)


def make(one: Model, key: str, given: argparse.Namespace) -> None:
    """Bench and submit one model, trained first if it must be."""
    runs = given.runs / key.removesuffix(".pt")
    data = ["--data-root", given.data_root] if given.data_root else []
    match one:
        case Published():
            model, about = published(one, given.checkpoints)
        case Own():
            model, about = own(one)
        case Defended():
            model, about = defended(one, runs)
    about += ["--name", one.name, "--link", f"paper={one.paper}"]
    if not isinstance(one, Published):
        about += ["--author", "genrobust", "--licence", "MIT"]
        about += ["--training-data", f"{given.suite}, training split"]
    # What others published is scored as it is, and not handed on: it goes without --evidence.
    bench = ["bench", "--model", *model, "--suite", given.suite]
    bench += [] if isinstance(one, Published) else ["--evidence"]
    run("genrobust", *bench, "--out", str(runs), *data)
    (record,) = runs.glob(f"{given.suite}-v*/*/record.json")
    run(
        *("genrobust", "submit", str(record.parent), *about, *data),
        *("--entries", str(given.entries), "--yes"),
    )


def published(one: Published, checkpoints: Path) -> tuple[list[str], list[str]]:
    """The model's arguments, and those that describe it."""
    family = one.weights.split("_")[0]
    model = [f"examples/{family}_checkpoint.py:build", "--weights", str(checkpoints / one.weights)]
    about = [word for author in one.authors for word in ("--author", author)]
    about += ["--family", one.family, "--licence", "MIT", "--source", one.folder]
    about += ["--note", one.note, "--link", f"weights={one.folder}"]
    about += ["--training-data", "MNIST, training split", "--slug", slug(one.weights)]
    return model, [*about, "--model", *model]


def own(one: Own) -> tuple[list[str], list[str]]:
    """The model's arguments, and those that describe it."""
    note = "Ships with genrobust; its card says how it was trained."
    return [one.model], ["--family", one.family, "--note", note, "--slug", f"zoo-{one.model}"]


def defended(one: Defended, runs: Path) -> tuple[list[str], list[str]]:
    """The model's arguments, and those that describe it; it is trained if it is not there."""
    folder = runs / "training"
    weights = folder / f"{one.model}.safetensors"
    change = [word for setting in one.changed for word in ("--set", setting)]
    train = ["train", "--model", one.model, "--seed", str(one.seed), *change]
    if not weights.is_file():
        run("genrobust", *train, "--out", str(folder))
    about = ["--family", "VAE", "--recipe", one.recipe, "--training-seed", str(one.seed)]
    note = f"Trained by: genrobust {' '.join(train)}"
    model = [one.model, "--weights", str(weights)]
    return model, [*about, "--note", note, "--slug", one.key]


def slug(weights: str) -> str:
    """The entry's folder."""
    return weights.removesuffix(".pt").replace("_", "-").lower()


def run(program: str, *words: str) -> None:
    """Run a command of the package in the repository's root, and show what it says."""
    subprocess.run([sys.executable, "-m", program, *words], check=True, cwd=HERE)


if __name__ == "__main__":
    main()
