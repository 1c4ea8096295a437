"""What an image shows, by the suite's rule, on the path that the model really uses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from genrobust.errors import GenrobustError
from genrobust.judges.judge import NO_VERDICT
from genrobust.models.model import GenerativeModel
from genrobust.models.state import TOLERANCE
from genrobust.posterior import Posterior
from genrobust.rules.base import Rule, Sources
from genrobust.runner.constant import Constant
from genrobust.seeding import seeded


@dataclass(frozen=True, eq=False)
class Scorer:
    """Says of reconstructions what they show.

    Args:
        rule: the suite's, with its judges.
        model: the model that is scored.
        seed: of the run; keys the draws of a random deployment.
        constant: of the data set, where one is at hand.
    """

    rule: Rule
    model: GenerativeModel
    seed: int
    constant: Constant | None = None

    def keyed(self, *key: object) -> AbstractContextManager[None]:
        """Within it, what a random model draws is keyed; others draw nothing."""
        if self.model.draws == 1:
            return nullcontext()
        return seeded(self.model.device, *key, self.seed)

    def reconstruct(self, x: Tensor, sample_ids: Sequence[int]) -> Tensor:
        """Deployed reconstructions, (D, B, C, H, W): D draws of a random deployment, else one.

        A sample's draws are keyed by its id, whatever else is in the batch.

        Raises:
            GenrobustError: the model gave NaN or infinite pixels.
        """
        draws = self.model.draws
        with torch.no_grad():
            if draws == 1 or not len(x):
                images = self.model.reconstruct(x)[None]
            else:
                each = []
                for i, image in zip(sample_ids, x, strict=True):
                    with self.keyed("deployed", int(i)):
                        each.append(self.model.reconstruct(image.expand(draws, *image.shape)))
                images = torch.stack(each, 1)
        _require_finite(images, sample_ids, "pixels")
        return images

    def posterior(self, x: Tensor, sample_ids: Sequence[int]) -> Posterior:
        """What the encoder says of images.

        Raises:
            GenrobustError: NaN or infinite numbers.
        """
        with self.keyed("posterior", sample_ids):
            posterior = self.model.encode(x)
        for part in posterior.parts:
            for field in fields(part):  # type: ignore[arg-type]
                _require_finite(getattr(part, field.name)[None], sample_ids, "codes")
        return posterior

    def check_unchanged(self, x: Tensor, sample_ids: Sequence[int], clean: Tensor) -> None:
        """Check at the end that images still have the reconstructions that they had at first.

        Raises:
            GenrobustError: the model is no longer what it was, or never was one model.
        """
        moved = float((self.reconstruct(x, sample_ids)[0] - clean).abs().max())
        if moved > TOLERANCE:
            raise GenrobustError(
                f"the model '{self.model.name}' reconstructed the same images otherwise after it "
                f"was attacked than before (by up to {moved:.2g}), so that no score would hold; "
                "let it keep nothing from one call to the next, and draw random numbers from the "
                "generators that torch.manual_seed, np.random.seed and random.seed reach"
            )

    @torch.no_grad()
    def verdict(self, images: Tensor, sources: Sources, *, clean: bool = False) -> Tensor:
        """What most draws of (D, B, C, H, W) show, (B,) int64; NO_VERDICT without a majority.

        A rule that draws does so twice for each sample: once for its ``clean`` reconstructions,
        once for all attacked ones.

        Raises:
            GenrobustError: the rule gave something else than a class for each image.
        """
        look = partial(self._look_drawing, clean=clean) if self.rule.draws else self.rule.look
        votes = torch.stack([look(image, sources) for image in images])
        if votes.dtype != torch.int64 or votes.shape != images.shape[:2]:
            raise GenrobustError(
                f"the rule '{self.rule.name}' gave verdicts of {votes.dtype} and shape "
                f"{tuple(votes.shape[1:])} for {images.shape[1]} images; let its look() return one "
                "int64 for each"
            )
        first = votes.mode(0).values
        majority = (votes == first).sum(0) * 2 > len(votes)
        return torch.where(majority, first, torch.full_like(first, NO_VERDICT))

    @torch.no_grad()
    def input_verdict(self, x: Tensor, sources: Sources) -> Tensor:
        """What sources show, or attacked ones, (B,) int64."""
        return self.rule.look_at_input(x, sources)

    def keeps_label(self, x_adv: Tensor, sources: Sources) -> Tensor:
        """Whether attacked images still show their source's class, (B,) bool."""
        return self.input_verdict(x_adv, sources) == sources.labels

    def _look_drawing(self, images: Tensor, sources: Sources, clean: bool) -> Tensor:
        """One image at a time, so that what is drawn depends on the sample alone."""
        seen = []
        for position, i in enumerate(sources.sample_ids):
            one = torch.tensor([position])
            with seeded(images.device, "live", clean, self.seed, int(i)):
                seen.append(self.rule.look(images[one], sources[one]))
        return torch.cat(seen)


def _require_finite(found: Tensor, ids: Sequence[int], what: str) -> None:
    bad = ~found.transpose(0, 1).flatten(1).isfinite().all(1)
    if bad.any():
        which = [i for i, b in zip(ids, bad.tolist(), strict=True) if b]
        raise GenrobustError(
            f"the model gave NaN or infinite {what} for {len(which)} of {len(ids)} images (sample "
            f"ids {', '.join(map(str, which[:5]))}{', ...' if len(which) > 5 else ''}); a model "
            "that does so cannot be scored: check its weights, and divisions and logarithms in it"
        )
