"""Images as data URIs, so that the page carries its own pictures."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image
from torch import Tensor


def data_uri(image: Tensor) -> str:
    """The image (C, H, W) in [0, 1] as a PNG in a data URI, one pixel for one pixel.

    Three channels are red, green and blue; any other number is averaged to grey.

    Example:
        >>> import torch
        >>> data_uri(torch.zeros(1, 2, 2))[:22]
        'data:image/png;base64,'
    """
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def png(image: Tensor) -> bytes:
    """The image (C, H, W) in [0, 1] as the bytes of a PNG file, likewise."""
    bytes_ = image.detach().cpu().float().nan_to_num().clamp(0, 1).mul(255).round().byte()
    if len(image) == 3:
        picture = Image.fromarray(bytes_.permute(1, 2, 0).contiguous().numpy())
    else:
        picture = Image.fromarray(bytes_.float().mean(0).byte().numpy())
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
