"""A judge, and a panel of judges that must agree."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from genrobust.errors import GenrobustError

#: Layers that draw in train mode and do nothing in eval mode.
DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)

#: What a panel says of an image on which its judges differ.
NO_VERDICT = -1


@dataclass(frozen=True, eq=False)
class Judge:
    """A frozen classifier of images (B, C, H, W) in [0, 1].

    Example:
        >>> import genrobust
        >>> images = genrobust.load_images("digits")
        >>> judge = genrobust.load_judge("digits", "vgg")
        >>> judge.labels(images.take([0, 1, 2])), judge.logits(images.take([0])).shape
        (tensor([0, 3, 6]), torch.Size([1, 10]))
    """

    name: str
    module: nn.Module
    sha256: str
    #: Held while it looks: by threads that share code which may keep something as it runs.
    lock: AbstractContextManager[Any] = field(default_factory=nullcontext)

    def logits(self, x: Tensor) -> Tensor:
        """Unnormalised scores, (B, classes), of images in any precision."""
        weights = self.module.parameters()
        is_taken = x.dtype == torch.float32 or any(w.dtype == x.dtype for w in weights)
        with self.lock:
            scores: Tensor = self.module(x if is_taken else x.float())
        return scores

    def labels(self, x: Tensor) -> Tensor:
        """The most likely class, (B,) int64."""
        return self.logits(x).argmax(1)

    def of(self, index: Tensor) -> Judge:
        """The judge of the sources at ``index``: the same, unless it knows each source."""
        return self

    def live(self) -> Judge:
        """A copy whose dropout draws from torch's own generators; all else stays in eval mode.

        Raises:
            GenrobustError: it has no dropout.
        """
        module = copy.deepcopy(self.module)
        dropout = [part for part in module.modules() if isinstance(part, DROPOUT)]
        if not dropout:
            raise GenrobustError(
                f"the judge '{self.name}' has no dropout that could draw in train mode; choose "
                "one that has, such as 'thesis'"
            )
        for part in dropout:
            part.train()
        return replace(self, module=module)

    def to(self, device: torch.device) -> Judge:
        """The judge on a device; this one stays where it is."""
        if device.type == "cpu":
            return self
        return replace(self, module=copy.deepcopy(self.module).to(device))


@dataclass(frozen=True, eq=False)
class Panel:
    """Judges that speak only where they agree.

    Example:
        >>> import genrobust
        >>> vgg, resnet = (genrobust.load_judge("digits", name) for name in ("vgg", "resnet"))
        >>> panel = Panel((vgg, resnet))
        >>> panel.verdict(genrobust.load_images("digits").take([0, 1, 2]))
        tensor([0, 3, 6])
    """

    judges: tuple[Judge, ...]

    @torch.no_grad()
    def verdict(self, x: Tensor) -> Tensor:
        """The class all judges see, (B,) int64; ``NO_VERDICT`` where they differ."""
        votes = torch.stack([judge.labels(x) for judge in self.judges])
        agreed = (votes == votes[0]).all(0)
        return torch.where(agreed, votes[0], torch.full_like(votes[0], NO_VERDICT))
