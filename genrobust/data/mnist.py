"""MNIST (LeCun et al. 1998) through torchvision, resized from 28x28 to 32x32 as in the thesis."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

from genrobust.data.base import Images, Split, usual_root
from genrobust.data.torchvision_datasets import torchvision_datasets
from genrobust.errors import GenrobustError


class Mnist:
    name = "mnist"
    classes = tuple("0123456789")
    image_shape = (1, 32, 32)
    where = "MNIST/raw"

    def load(self, split: Split, root: Path | None) -> Images:
        folder = root or usual_root()
        data = _read(folder, train=split == "train")
        return Images(data.data[:, None], data.targets.long(), (32, 32))


def _read(folder: Path, train: bool) -> Any:
    mnist = torchvision_datasets().MNIST
    try:
        return mnist(str(folder), train=train, download=False)
    except RuntimeError:
        pass  # how torchvision says that the files are not there
    except Exception as problem:
        raise GenrobustError(
            f"the MNIST files under '{folder}' cannot be read ({problem}); delete the folder "
            "'MNIST' there and run again to download it anew"
        ) from problem
    try:
        with redirect_stderr(io.StringIO()):  # torchvision would draw a progress bar of its own
            return mnist(str(folder), train=train, download=True)
    except (OSError, RuntimeError) as problem:
        for created in (folder / "MNIST" / "raw", folder / "MNIST"):
            with suppress(OSError):
                created.rmdir()  # only if empty
        reasons = [line for line in str(problem).splitlines() if "rror" in line]
        reason = reasons[-1] if reasons else problem
        raise GenrobustError(
            f"MNIST is not under '{folder}' and cannot be downloaded ({reason}); give the folder "
            "that holds MNIST/raw with --data-root, or set GENROBUST_DATA"
        ) from problem


MNIST = Mnist()
