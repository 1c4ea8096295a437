"""scikit-learn's handwritten digits (UCI, Alpaydin & Kaynak 1998): real scans, embedded, offline.

1,797 scans of 8x8 pixels with 17 grey levels, resized to 32x32. Every third one is a test image.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrobust.data.base import Images, Split


class Digits:
    name = "digits"
    classes = tuple("0123456789")
    image_shape = (1, 32, 32)

    def load(self, split: Split, root: Path | None) -> Images:
        scans, labels = _scans_and_labels()
        pixels = torch.from_numpy(scans).float().view(-1, 1, 8, 8) / 16
        is_test = torch.arange(len(pixels)) % 3 == 0
        chosen = is_test if split == "test" else ~is_test
        return Images(pixels[chosen], torch.from_numpy(labels).long()[chosen], (32, 32))


def _scans_and_labels() -> tuple[Any, Any]:
    """(1797, 64) and (1797,), from the file that scikit-learn reads: it takes long to import."""
    found = find_spec("sklearn")
    for place in (found and found.submodule_search_locations) or ():
        file = Path(place) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1].astype(np.int64)
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


DIGITS = Digits()
