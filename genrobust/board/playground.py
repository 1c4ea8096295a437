"""What the playground shows: models that ship, before and after the attacks stored with entries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrobust.data import load_images
from genrobust.errors import GenrobustError
from genrobust.evidence.bundle import EVIDENCE, Evidence, read_evidence
from genrobust.evidence.entries import LoadedEntry
from genrobust.evidence.entry import ZooModel
from genrobust.judges import Panel, load_judge
from genrobust.report.pictures import png
from genrobust.runner.perturbation import images_of
from genrobust.suites.suite import Suite
from genrobust.threat import ThreatModel
from genrobust.verify.pictures import grid

#: Data that comes with genrobust: a site is built without a network.
SHIPPED = ("digits",)
#: Sources of each class.
EACH = 2
#: By how much the change is magnified; grey is none.
MAGNIFIED = 5
#: The rows of a sheet, from the top.
SHEET_ROWS = (
    "the source",
    "its reconstruction",
    "the attacked image",
    f"the change, {MAGNIFIED} times",
    "the reconstruction of the attacked image",
)


@dataclass(frozen=True)
class Sheet:
    """A model's pictures, and what they are; a column a source, the same ones for each model.

    Args:
        content: a PNG of square tiles, in :data:`SHEET_ROWS`.
        labels: the sources' classes.
        sample_ids: the sources' ids.
        fell: the position of the smallest radius at which an attack turned the source into another
            class; None where none did; -1 where it was not reconstructed right to begin with.
        became: the class that the judges see in the reconstruction of the attacked image.
    """

    content: bytes
    labels: tuple[int, ...]
    sample_ids: tuple[int, ...]
    fell: tuple[int | None, ...]
    became: tuple[int, ...]


def is_playable(entry: LoadedEntry | None) -> bool:
    """Whether an entry is of a model and of data that ship, and a replay has shown its evidence."""
    return (
        entry is not None
        and isinstance(entry.entry.model, ZooModel)
        and entry.record.suite.dataset in SHIPPED
        and entry.state in ("replay", "re-attack")
        and (entry.folder / EVIDENCE).is_file()
    )


def sheet(entry: LoadedEntry) -> Sheet | None:
    """The pictures of a playable entry; None if the model that ships now is another one."""
    evidence = read_evidence(entry.folder / EVIDENCE)
    try:
        model = evidence.load_model()
    except GenrobustError:
        return None
    suite = evidence.record.suite
    images = load_images(suite.dataset, suite.split)
    labels = images.labels_of(suite.sample_ids)
    chosen = _first(labels)
    x, x_adv = _inputs(evidence, suite, images.take(suite.sample_ids), chosen)
    panel = Panel(
        tuple(load_judge(suite.dataset, ref.architecture) for ref in suite.scoring_judges)
    )
    with torch.no_grad():
        clean, after = model.reconstruct(x), model.reconstruct(x_adv)
        became = panel.verdict(after)
    change = 0.5 + MAGNIFIED * (x_adv - x)
    rows = torch.stack([x, clean, x_adv, change, after]).clamp(0, 1)
    outcomes = evidence.outcomes
    return Sheet(
        content=png(grid(rows)),
        labels=tuple(labels[chosen].tolist()),
        sample_ids=tuple(suite.sample_ids[p] for p in chosen.tolist()),
        fell=tuple(
            outcomes.ignore_target[p] if outcomes.eligible[p] else -1 for p in chosen.tolist()
        ),
        became=tuple(became.tolist()),
    )


def _first(labels: Tensor) -> Tensor:
    """Positions of the first sources of each class, class by class."""
    return torch.cat([(labels == one).nonzero()[:EACH, 0] for one in labels.unique()])


def _inputs(evidence: Evidence, suite: Suite, x: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Sources, and the stored images of the smallest radius that changed them, else themselves."""
    threats = [ThreatModel(suite.norm, eps) for eps in suite.eps]
    return x[chosen], images_of(evidence.outcome.untargeted, x, threats)[chosen]
