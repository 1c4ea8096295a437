"""A search with the scoring judges in hand, on what the leaderboard says stands.

    python benchmarks/independent.py leaderboard/entries/digits-v2/fare-vae-seed-0 ...
    python benchmarks/independent.py leaderboard/entries/mnist-v2/zoo-* --limit 100 --steps 50 \
        --data-root FOLDER --out benchmarks/independent-mnist.md

The suites' attacks know neither of the judges that score. This one attacks the mean of their logits
and the committee's, towards each other class, with other seeds and more steps: so it may break what
no attack of the suite breaks, by fooling the judges and not the model. Where even it breaks next to
nothing, what stands does not stand for want of steps, classes or the right judge.

Takes entries that carry their model. Writes ``benchmarks/independent.md``, or what ``--out`` says.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

import genrobust
from genrobust.evidence.bundle import EVIDENCE, read_evidence
from genrobust.judges import Judge, Panel, load_judge
from genrobust.records.outcomes import Outcomes
from genrobust.records.record import Record

HERE = Path(__file__).parent


class Mean(nn.Module):
    """The mean of several judges' logits."""

    def __init__(self, judges: list[Judge]) -> None:
        super().__init__()
        self.members = nn.ModuleList(judge.module for judge in judges)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entries", nargs="+", type=Path, help="folders of entries")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--limit", type=int, help="so many of the suite's first sources")
    parser.add_argument("--data-root")
    parser.add_argument("--out", type=Path, default=HERE / "independent.md")
    given = parser.parse_args()
    rows = [row for folder in given.entries for row in searched(folder, given)]
    seeds = "a seed" if given.seeds == 1 else f"{given.seeds} seeds"
    limit = f" --limit {given.limit}" if given.limit else ""
    of = f" Of the first {given.limit} sources." if given.limit else ""
    text = (
        "What stands at a radius by an entry, and what of it falls to a search with the scoring "
        "judges in hand: by their logits and the committee's, towards each other class, "
        f"{given.steps} steps, {seeds}.{of} genrobust {genrobust.__version__}, `python "
        f"benchmarks/independent.py{limit}`.\n\n"
        "| entry | radius | stands | falls |\n| --- | ---: | ---: | ---: |\n"
    )
    text += "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows)
    given.out.write_text(text)
    print(text)


def searched(folder: Path, given: argparse.Namespace) -> list[tuple[str, str, int, int]]:
    """The entry, a radius, how many sources stand there and how many of them fall, for each."""
    suite = Record.load(folder).suite
    outcomes = Outcomes.model_validate_json((folder / "outcomes.json").read_text())
    model = read_evidence(folder / EVIDENCE).load_model()
    images = genrobust.load_images(suite.dataset, suite.split, given.data_root)
    scorers = [load_judge(suite.dataset, one.architecture) for one in suite.scoring_judges]
    attackers = [*scorers, load_judge(suite.dataset, suite.attacker_judge.architecture)]
    attacker = Judge("scorers and committee", Mean(attackers).eval(), "")
    found = []
    for e, eps in enumerate(suite.eps):
        ids = [
            sample
            for sample, eligible, first in islice(
                zip(suite.sample_ids, outcomes.eligible, outcomes.ignore_target, strict=True),
                given.limit,
            )
            if eligible and (first is None or first > e)
        ]
        fell = torch.zeros(len(ids), dtype=torch.bool)
        x, y = images.take(ids), images.labels_of(ids)
        for seed in range(1, given.seeds + 1):
            for away in range(1, len(images.labels.unique())):
                left = (~fell).nonzero()[:, 0]
                if not len(left):
                    break
                fell[left] |= falls(
                    model, Panel(tuple(scorers)), x[left], y[left],
                    labels=y[left],
                    target_labels=(y[left] + away) % len(images.labels.unique()),
                    judge=attacker,
                    eps=eps,
                    norm=suite.norm,
                    steps=given.steps,
                    confidence=8.0,
                    seed=seed,
                    sample_ids=[ids[i] for i in left.tolist()],
                )  # fmt: skip
        found.append((folder.name, f"{eps:g}", len(ids), int(fell.sum())))
        print(*found[-1], flush=True)
    return found


def falls(
    model: genrobust.GenerativeModel, panel: Panel, x: Tensor, y: Tensor, **how: object
) -> Tensor:
    """Whose reconstruction both scorers call another class, while the image keeps its own."""
    x_adv = genrobust.attack("classifier", model, x, **how).x_adv
    with torch.no_grad():
        seen = panel.verdict(model.reconstruct(x_adv).clamp(0, 1))
    return (seen >= 0) & (seen != y) & (panel.verdict(x_adv) == y)


if __name__ == "__main__":
    main()
