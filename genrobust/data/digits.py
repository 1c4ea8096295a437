"""scikit-learn's handwritten digits (UCI, Alpaydin & Kaynak 1998): real scans, embedded, offline.

1,797 scans of 8x8 pixels with 17 grey levels, resized to 32x32. Every third one is a test image.
"""

from __future__ import annotations

from pathlib import Path

import torch

from genrobust.data.base import Images, Split


class Digits:
    name = "digits"
    classes = tuple("0123456789")
    image_shape = (1, 32, 32)

    def load(self, split: Split, root: Path | None) -> Images:
        from sklearn.datasets import load_digits

        scans, labels = load_digits(return_X_y=True)
        pixels = torch.from_numpy(scans).float().view(-1, 1, 8, 8) / 16
        is_test = torch.arange(len(pixels)) % 3 == 0
        chosen = is_test if split == "test" else ~is_test
        return Images(pixels[chosen], torch.from_numpy(labels).long()[chosen], (32, 32))


DIGITS = Digits()
