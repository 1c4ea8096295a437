"""One picture, or an array of them, as a tensor (C, H, W): of whatever it is, and at a shape."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genrobust.arguments import require_pixels, tensor
from genrobust.errors import GenrobustError, GenrobustWarning, in_a_line
from genrobust.files import open_file

#: How likely an axis of so many entries is that of the channels: grey and colour, and with alpha.
CHANNELS = {1: 2, 3: 2, 2: 1, 4: 1}

#: How PIL calls pixels of 16 bits a channel; what ends in 16 alone has 16 bits in all.
_DEEP = re.compile(r";16[BLN]")

#: (C, H, W).
Shape = tuple[int, int, int]


def fitted(picture: Tensor, shape: Shape, channels: str | None) -> Tensor:
    """The picture at a shape: the largest part in the middle of that aspect, resized.

    By area where it becomes smaller and bilinearly where it becomes larger.

    Args:
        picture: (C, H, W), bytes or floats in [0, 1]; what comes out is of the same kind.
        shape: (C, H, W) of the result.
        channels: ``"rgb"`` or ``"grey"``, what pictures of other channels are turned into, without
            their alpha where they have one; None for no such thing.

    Raises:
        GenrobustError: its channels are others, and it was not said what to do, or cannot be done.

    Example:
        >>> fitted(torch.zeros(3, 20, 30, dtype=torch.uint8), (1, 8, 8), "grey").shape
        torch.Size([1, 8, 8])
    """
    size = shape[1:]
    if picture.shape == shape:
        return picture
    pixels = picture.float()
    if len(picture) != shape[0]:
        _require_turned(len(picture), shape[0], channels)
        pixels = _turned(pixels, shape[0])
    height, width = pixels.shape[1:]
    scale = min(height / size[0], width / size[1])
    crop = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    pixels = pixels[None, :, top : top + crop[0], left : left + crop[1]]
    if crop[0] > size[0]:
        pixels = F.interpolate(pixels, size, mode="area")
    elif crop != size:
        pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
    return pixels[0].round().byte() if picture.dtype == torch.uint8 else pixels[0]


def _require_turned(there: int, wanted: int, channels: str | None) -> None:
    """Pictures can be turned into such of other channels, and it was said that they are."""
    kind = {1: "grey", 3: "rgb"}.get(wanted)
    problem = f"a picture has {there} channels where {wanted} are wanted"
    if wanted in (2, 4) and there in (1, 3):
        raise GenrobustError(
            f"{problem}, and pictures from files, and of PIL, are read as grey or RGB, without "
            f"alpha; give a .npz or a data set of tensors for {wanted} channels, or a model that "
            f"takes {there}"
        )
    if kind is None or there not in CHANNELS:
        raise GenrobustError(
            f"{problem}, and only grey and colour, with or without alpha, are turned into each "
            f"other; give pictures that have {wanted}, or a model that takes {there}"
        )
    if channels != kind:
        raise GenrobustError(
            f"{problem}; to have all turned into {kind}, put '?channels={kind}' behind the name of "
            "the data; objects in Python (data=) have none: turn these yourself"
        )


def _turned(pixels: Tensor, channels: int) -> Tensor:
    """Grey or colour, (C, H, W), as the other, without alpha."""
    if len(pixels) < 3:
        return pixels[:1].expand(channels, -1, -1)
    if channels == 3:
        return pixels[:3]
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R 601, as PIL's
    return (pixels[:3] * luma).sum(0, keepdim=True)


def opened(file: Path) -> Tensor:
    """A picture's file as bytes (C, H, W), grey or in colour, upright, without alpha.

    Of several frames it is the first, which is said.

    Raises:
        GenrobustError: it cannot be read, or has more than 8 bits a channel.
    """
    from PIL import Image

    try:
        with open_file(file) as content, Image.open(content) as picture:
            _require_bytes(picture)
            # The second picture of a camera's .mpo, which may end in .jpg, is a preview.
            if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
                warnings.warn(
                    "of a picture file of several frames, as an animation or a stack is, the first "
                    "alone is read; save each frame as a file of its own to have all count",
                    GenrobustWarning,
                    stacklevel=2,
                )
            return pixels_of(_upright(picture))
    except GenrobustError as problem:
        raise GenrobustError(f"the picture '{file}': {problem}") from problem
    except Exception as problem:  # PIL's decoders raise anything
        raise GenrobustError(
            f"the picture '{file}' cannot be read ({in_a_line(problem)}); repair or remove it"
        ) from problem


def _require_bytes(picture: Any) -> None:
    """PIL's picture has no more than 8 bits a channel; in colour PIL cuts more without a word."""
    if picture.mode[0] in "IF" or any(map(_is_deep, getattr(picture, "tile", ()))):
        raise GenrobustError(
            f"it has more than 8 bits a channel (PIL's mode is {picture.mode}); give pictures of "
            "8 bits a channel, or a .npz of floats in [0, 1]"
        )


def _warn_of_transparency(picture: Any) -> None:
    """Beneath what is transparent lies a colour that nobody sees, often black or noise."""
    if not getattr(picture, "has_transparency_data", False):  # Pillow says so from 10.1 on
        return
    least, _ = picture.convert("RGBA").getextrema()[3]
    if least < 255:
        warnings.warn(
            "of a picture that is transparent in parts the colours beneath are read, as if it were "
            "not; lay such pictures on a background first, where your model was trained on such, "
            "as by PIL's Image.alpha_composite, and save them without alpha",
            GenrobustWarning,
            stacklevel=2,
        )


def _is_deep(part: Any) -> bool:
    """Whether this part of a file, which is not decoded yet, has more than 8 bits a channel."""
    decoder, _, _, how = part
    words = how if isinstance(how, tuple) else (how,)
    highest = max((word for word in words if isinstance(word, int)), default=0)
    if decoder.startswith("ppm"):
        return highest > 255
    return any(isinstance(word, str) and _DEEP.search(word) for word in words)


def _upright(picture: Any) -> Any:
    """As it is shown: a camera that was held upright writes so into EXIF, and turns no pixel."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # EXIF that cannot be read, beside pixels that can
        return picture


def pixels_of(picture: Any, shape: Shape | None = None) -> Tensor:
    """A picture of PIL's, without alpha, an array or a tensor as (C, H, W).

    Args:
        picture: it.
        shape: (C, H, W) that is wanted; see :func:`channels_first`.

    Raises:
        GenrobustError: it is none of these, or its pixels are no bytes or floats in [0, 1].

    Example:
        >>> pixels_of(np.zeros((8, 9, 3), "uint8")).shape
        torch.Size([3, 8, 9])
    """
    if hasattr(picture, "convert"):  # PIL's, whose height may be 1 or 3 as channels are
        _require_bytes(picture)
        _warn_of_transparency(picture)
        grey = picture.mode in ("1", "L", "LA", "La")
        found = torch.from_numpy(np.array(picture.convert("L" if grey else "RGB")))
        return found[None] if grey else found.permute(2, 0, 1)
    if isinstance(picture, Mapping) and {*picture} & {"bytes", "path"}:  # as Hugging Face's
        raise GenrobustError(
            "the picture is not decoded; let the data set give PIL's, such as by "
            "cast_column('image', datasets.Image())"
        )
    found = numbers("the picture", picture)
    if found.ndim not in (2, 3):
        raise GenrobustError(
            f"the picture has shape {tuple(found.shape)}; give (C, H, W), (H, W, C) or (H, W)"
        )
    return channels_first(with_channels(found[None])[0], shape)


def numbers(name: str, given: Any) -> Tensor:
    """Tensors and arrays, or lists of numbers, as a tensor.

    Args:
        name: what it is called where it is none.
        given: of any byte order and strides; an array that has those of torch is not copied.

    Raises:
        GenrobustError: it holds something else.

    Example:
        >>> numbers("images", np.arange(3, dtype=">i4")[::-1])
        tensor([2, 1, 0], dtype=torch.int32)
    """
    if isinstance(given, Tensor) or np.ma.is_masked(given):
        return tensor(name, given)
    try:
        array = np.asarray(given)
        array = np.require(array, array.dtype.newbyteorder("="), "C")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of arrays that are read only: nothing is written
            return torch.from_numpy(array)
    except (TypeError, ValueError, RuntimeError):
        return tensor(name, given)  # which says what it is


def with_channels(images: Tensor) -> Tensor:
    """(N, H, W), which are grey, (N, H, W, C) or (N, C, H, W) as one of the last two.

    Raises:
        GenrobustError: they are of another shape, or no bytes, bools or floats in [0, 1].
    """
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise GenrobustError(
            f"images have shape {tuple(images.shape)}; give (N, C, H, W), (N, H, W, C) or (N, H, W)"
        )
    if not images.numel():
        raise GenrobustError("the data holds no images; give at least one, of at least one pixel")
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool:
        return images.cpu().float()
    if not images.is_floating_point():
        raise GenrobustError(f"images are {images.dtype}{_of_whole(images)}")
    images = images.detach().cpu().float()
    require_pixels("images", images)
    return images


def _of_whole(images: Tensor) -> str:
    """In which range whole numbers that are no bytes are, and what to make of them."""
    if images.is_complex():
        return "; give bytes, or floats in [0, 1]"
    low, high = int(images.long().min()), int(images.long().max())
    white = next((white for white in (1, 255, 1023, 4095, 65535) if high <= white), high)
    if low < 0 or white not in (1, 255):
        given = f"floats in [0, 1], such as images / {white} if that is white"
    elif white == 1:
        given = "floats, such as images.astype('float32') if 1 is white"
    else:
        given = "bytes, such as images.astype('uint8')"
    return f" from {low} to {high}; give {given}"


def channels_first(picture: Tensor, shape: Shape | None = None) -> Tensor:
    """(H, W, C) or (C, H, W) as the second.

    Args:
        picture: one of them.
        shape: (C, H, W) that is wanted, by which a picture of that shape is as it should be, and
            the channels are on the axis that has as many; None where nothing is known of it.

    Example:
        >>> signal = torch.zeros(12, 50, 1)
        >>> channels_first(signal).shape, channels_first(signal, (12, 50, 1)).shape
        (torch.Size([1, 12, 50]), torch.Size([12, 50, 1]))
    """
    first, last = picture.shape[0], picture.shape[2]
    turned = CHANNELS.get(last, 0) > CHANNELS.get(first, 0)
    if shape is not None and (first == shape[0]) != (last == shape[0]):
        turned = last == shape[0]
    if picture.shape == shape or not turned:
        return picture
    return picture.permute(2, 0, 1)
