"""Figures in one style: colours that any eye tells apart, axes, and rows of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genrobust.errors import GenrobustError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe & Ito 2008: told apart with any colour vision; dashes and marks tell them apart without.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES, MARKS = ("-", "--", ":", "-."), ("o", "s", "^", "D", "v")

#: How large a picture is drawn, in inches.
_SIDE = 0.8


def axes(ax: Axes | None) -> Axes:
    """Those given, or new ones."""
    if ax is not None and not hasattr(ax, "plot"):
        raise GenrobustError(f"ax is {ax!r}; give matplotlib's axes, such as plt.subplots()[1]")
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(layout="constrained")[1]


def blank(width: float, height: float) -> Figure:
    """A new figure, in inches, that no screen shows and pyplot does not keep."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Figure, **settings: Any) -> str:
    """A figure as SVG without a date; ``settings`` are matplotlib's for SVG, such as hashsalt."""
    from matplotlib import rc_context

    drawn = StringIO()
    with rc_context({f"svg.{name}": value for name, value in settings.items()}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return drawn.getvalue()


def style(number: int) -> dict[str, str]:
    """How the line of that number is drawn.

    >>> style(0)
    {'color': '#0072B2', 'ls': '-', 'marker': 'o'}
    """
    return {
        "color": COLOURS[number % len(COLOURS)],
        "ls": DASHES[number % len(DASHES)],
        "marker": MARKS[number % len(MARKS)],
    }


def legend_above(ax: Axes) -> None:
    """The legend, where it hides nothing."""
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def change(x: Tensor, x_adv: Tensor) -> tuple[str, list[Tensor]]:
    """What was changed, magnified for the eye: half grey where nothing was.

    Args:
        x: images, (B, C, H, W) in [0, 1].
        x_adv: the changed ones, likewise.

    Returns:
        The words for it, with the factor, and the pictures, (C, H, W) in [0, 1] each.

    >>> change(torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 0.6))
    ('change times 5', [tensor([[[1.]]])])
    """
    moved = (x_adv - x).detach()
    largest = float(moved.abs().max()) if moved.numel() else 0.0
    factor = max(1, int(0.5 / largest + 1e-3)) if largest else 1
    return f"change times {factor}", list((0.5 + factor * moved).clamp(0, 1))


def pictures(
    rows: Mapping[str, Sequence[Tensor | None]],
    titles: Sequence[str] = (),
    figure: Figure | None = None,
) -> Figure:
    """Rows of pictures, a column a source.

    Args:
        rows: by their names, pictures (C, H, W) in [0, 1]; None leaves the place empty.
        titles: of the columns.
        figure: where to; default a new one, which pyplot shows.

    Returns:
        The figure. ``figure.savefig("it.pdf")`` keeps every pixel as it is.
    """
    columns = max(map(len, rows.values()))
    if figure is None:
        from matplotlib import pyplot as plt

        size = (1.4 + _SIDE * columns, 0.4 + _SIDE * len(rows))
        figure = plt.figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for (name, row), places in zip(rows.items(), grid, strict=True):
        for ax in places:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, picture in zip(places, row, strict=False):
            if picture is not None:
                _show(ax, picture)
        places[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for ax, title in zip(grid[0], titles, strict=False):
        ax.set_title(title, fontsize="small")
    return figure


def _show(ax: Axes, picture: Tensor) -> None:
    image = picture.detach().float().cpu().clamp(0, 1)
    if len(image) == 2:  # no colour space has two: the third is left dark
        image = torch.cat([image, torch.zeros_like(image[:1])])
    shown = image[0] if len(image) == 1 else image[:3].movedim(0, -1)
    ax.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
