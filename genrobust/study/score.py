"""What is measured of one trained model: its robustness, its quality, and how its code is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor

from genrobust import files
from genrobust.data.base import load_images
from genrobust.data.factors import known_factors
from genrobust.errors import GenrobustError
from genrobust.metrics import disentanglement as scores
from genrobust.models.card import Card
from genrobust.models.model import GenerativeModel
from genrobust.posterior import Gaussian, Point
from genrobust.records.outcomes import OUTCOMES, Outcomes, source_areas
from genrobust.records.record import Record
from genrobust.suites.suite import Frozen

#: Changes when a score of :func:`of_code` does: what an older version wrote is measured anew.
VERSION = 1

#: What is measured of codes and factors, by the columns it gives; higher is more disentangled.
DISENTANGLEMENT: dict[tuple[str, ...], Callable[[Tensor, Tensor], float | tuple[float, ...]]] = {
    ("mig",): scores.mig,
    ("sap",): scores.sap,
    ("modularity",): scores.modularity,
    ("dci_disentanglement", "dci_completeness", "dci_informativeness"): scores.dci,
    ("factor_score",): scores.factor_score,
    ("beta_score",): scores.beta_score,
}

#: What each column of a study is.
COLUMNS = {
    "robust_area": "area under robust accuracy over the radius, a share of the range",
    "clean_accuracy": "share of sources whose clean reconstruction shows their class",
    "squared_error": "of the clean reconstruction, summed over pixels, the mean over the test "
    "split",
    "kl": "of the posterior to the prior, nats, the mean over the test split",
    "elbo": "nats, the mean over the test split",
    "total_correlation": "of the latent means over the sources, taken as Gaussian, nats",
    "active_latents": "whose mean KL is above 0.01 nats",
    "mig": "mutual information gap (Chen et al. 2018)",
    "sap": "separated attribute predictability (Kumar et al. 2018)",
    "modularity": "Ridgeway & Mozer 2018",
    "dci_disentanglement": "Eastwood & Williams 2018",
    "dci_completeness": "likewise",
    "dci_informativeness": "likewise",
    "factor_score": "FactorVAE score (Kim & Mnih 2018)",
    "beta_score": "beta-VAE score (Higgins et al. 2017)",
}


class Row(Frozen):
    """One trained model of a study.

    ``metrics`` are the columns of :data:`COLUMNS`, None where undefined; ``areas`` the robust area
    of each source, 0 where it is not eligible: their mean is ``robust_area``.

    Example:
        >>> row = Row(recipe="mine", family="vae", seed=0, areas=(0.5, 0.0), weights_sha256="",
        ...           metrics={"robust_area": 0.25, "mig": None})
        >>> row.metrics["robust_area"]
        0.25
    """

    recipe: str
    family: str
    seed: int
    metrics: dict[str, float | None]
    areas: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]
    flags: tuple[str, ...] = ()
    weights_sha256: str

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Row:
        claimed = self.metrics.get("robust_area")
        if claimed is None or abs(claimed - sum(self.areas) / len(self.areas)) > 1e-5:
            raise ValueError("robust_area is not the mean over the sources")
        return self


def row_of(label: str, card: Card, record: Record, bench: Path, of_code: dict[str, float]) -> Row:
    """A model's row from its card, its record and what was measured of its code."""
    outcomes = Outcomes.model_validate_json(files.read_text(bench / OUTCOMES))
    areas = source_areas(outcomes.worst, record.suite).tolist()
    measured: dict[str, float | None] = {
        "robust_area": sum(areas) / len(areas),
        "clean_accuracy": record.scores.clean_accuracy.value,
        "total_correlation": record.scores.total_correlation,
        **card.metrics,
        **of_code,
    }
    if "elbo" not in card.metrics:  # points: their KL of 0 says nothing
        measured["kl"] = None
    return Row(
        recipe=label,
        family=card.name,
        seed=card.seed,
        metrics={name: measured.get(name) for name in COLUMNS},
        areas=tuple(round(area, 6) for area in areas),
        flags=tuple(dict.fromkeys(flag.name for flag in record.flags)),
        weights_sha256=card.weights_sha256,
    )


def code_scores(
    folder: Path, model: GenerativeModel, dataset: str, data_root: str | Path | None
) -> dict[str, float]:
    """What :func:`of_code` measures, kept in the model's folder."""
    path = folder / "code.json"
    with suppress(OSError, ValueError, AttributeError):
        kept = json.loads(files.read_text(path))
        if kept.pop("version") == VERSION:
            return {str(name): float(value) for name, value in kept.items()}
    found = of_code(model, dataset, data_root)
    files.write_text(path, json.dumps({"version": VERSION, **found}, indent=1) + "\n")
    return found


@torch.no_grad()
def of_code(
    model: GenerativeModel, dataset: str, data_root: str | Path | None = None
) -> dict[str, float]:
    """Active latents, and the disentanglement scores where factors are known.

    On the test split, by the posterior's means and, of categorical latents, the class. A score that
    a code does not define is left out, and so are all of them for codes that are grids of entries.
    """
    images, batch = load_images(dataset, "test", data_root), 500
    posteriors = [
        model.encode(images.take(range(first, min(first + batch, len(images)))))
        for first in range(0, len(images), batch)
    ]
    found: dict[str, float] = {}
    first = posteriors[0]
    kl = torch.cat([one.kl_to_prior() for one in posteriors])
    if kl.numel() and kl.isfinite().all():  # points have none
        found["active_latents"] = float(scores.active_latents(kl))
    factors = known_factors(dataset, "test", data_root)
    if not factors or not any(isinstance(part, (Gaussian, Point)) for part in first.parts):
        return found
    codes = torch.cat([torch.cat([one.means(), one.tokens().float()], 1) for one in posteriors])
    truth = torch.stack(list(factors.values()), 1)
    for names, score in DISENTANGLEMENT.items():
        with suppress(GenrobustError):
            values = score(codes, truth)
            found |= zip(names, values if isinstance(values, tuple) else (values,), strict=True)
    return found
