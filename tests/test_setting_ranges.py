"""Settings outside their range are refused: many would search less, which flatters a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import Field, NonNegativeFloat, PositiveFloat
from typer.testing import CliRunner

from genrobust.attacks import ATTACKS, make_attack
from genrobust.attacks.noise import Noise
from genrobust.attacks.settings import declared
from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.objectives.base import OBJECTIVES

#: Next to a bound, and next to nothing of it.
TINY = 1e-9


@dataclass(frozen=True)
class Bounded(Noise):
    """Noise whose settings have ranges of all sorts."""

    name = "bounded"

    rate: PositiveFloat = 0.1
    weight: NonNegativeFloat | None = None
    share: Annotated[float, Field(ge=0, lt=1)] = 0.5
    rungs: tuple[PositiveFloat, ...] = (1.0,)
    offset: Annotated[int, Field(ge=-2)] = 5
    free: float = 0.0


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTACKS._registered, "bounded", Bounded)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("rate", TINY, 0),
        ("weight", 0, -TINY),
        ("weight", None, -1),
        ("share", 0, 1),
        ("rungs", [0.5, 2], [0.5, 0]),
        ("offset", -2, -3),
    ],
)
def test_a_plugins_ranges_are_kept_too(key: str, inside: Any, outside: Any) -> None:
    assert make_attack("bounded", {key: inside})
    with pytest.raises(GenrobustError, match=rf"^the attack 'bounded' got {key}=.* than .*default"):
        make_attack("bounded", {key: outside})


@pytest.mark.usefixtures("bounded")
def test_a_plugins_setting_without_a_range_takes_any_number() -> None:
    assert make_attack("bounded", {"free": -3.5}).settings()["free"] == -3.5
    with pytest.raises(GenrobustError, match="must be a finite number"):
        make_attack("bounded", {"free": float("-inf")})


@pytest.mark.usefixtures("bounded")
def test_a_setting_is_shown_by_its_type_alone() -> None:
    kinds = [one.kind for one in declared("bounded", Bounded).values()]
    assert kinds == ["float", "float | None", "float", "tuple[float, ...]", "int", "float"]
    shown = CliRunner().invoke(app, ["show", "attack", "bounded"]).output
    assert "rate = 0.1" in shown
    assert "Annotated" not in shown


def test_a_plugins_objective_keeps_its_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Bright:
        weight: PositiveFloat = 1.0

        def __call__(self, x_adv: Any, context: Any) -> Any:
            return -self.weight * x_adv.flatten(1).mean(1)

    monkeypatch.setitem(OBJECTIVES._registered, "bright", Bright)
    assert make_attack("objective:bright", {"weight": 2.0})
    with pytest.raises(GenrobustError, match="got weight=0: Input should be greater than 0"):
        make_attack("objective:bright", {"weight": 0})
