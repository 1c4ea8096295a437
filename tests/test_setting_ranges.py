"""Settings outside their range are refused: many would search less, which flatters a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, NonNegativeFloat, PositiveFloat
from typer.testing import CliRunner

import genrobust
from genrobust.attacks import ATTACKS, make_attack
from genrobust.attacks.noise import Noise
from genrobust.attacks.settings import declared
from genrobust.cli.app import app
from genrobust.errors import GenrobustError
from genrobust.objectives.base import OBJECTIVES
from genrobust.suites import AttackEntry, load_suite

#: Next to a bound, and next to nothing of it.
TINY = 1e-9
#: Values just inside and just outside a range.
Values = tuple[tuple[float, ...], tuple[float, ...]]
ABOVE_0: Values = (TINY, 1, 1e9), (0, -TINY, -1)
FROM_0: Values = (0, TINY, 1e9), (-TINY, -1)
SHARE: Values = (TINY, 1), (0, -TINY, -1, 1 + TINY, 3)

#: The range of every setting that is a real number, by its name; where an attack has another one
#: than the rest, by its own name too.
RANGES: dict[str, Values] = {
    **dict.fromkeys(("learning_rate", "step_size", "relative_step", "length"), ABOVE_0),
    **dict.fromkeys(("lowest", "highest", "smallest", "largest", "initial"), ABOVE_0),
    **dict.fromkeys(("temperature", "patience", "std", "start_noise"), ABOVE_0),
    **dict.fromkeys(("confidence", "distance_weight"), FROM_0),
    **dict.fromkeys(("hope", "agree", "first_share", "gamma"), SHARE),
    "kuzina smallest": FROM_0,  # a rate that never falls below it runs to the end
    "thesis start_noise": FROM_0,  # it has a gradient at the source
}


def attacks() -> Iterator[str]:
    """All attacks by name, and one of each bridge."""
    yield from (*ATTACKS.names(), "foolbox:LinfPGD", "art:DeepFool")
    for name in OBJECTIVES.names():
        try:
            ATTACKS.get(f"objective:{name}")
        except GenrobustError:  # it is made by the attacks that use it
            continue
        yield f"objective:{name}"


REAL = [
    (name, one.name)
    for name in attacks()
    for one in declared(name, ATTACKS.get(name)).values()
    if one.hint in (float, float | None)
]


@pytest.mark.parametrize(("name", "key"), REAL)
def test_every_real_setting_has_a_range(name: str, key: str) -> None:
    inside, outside = RANGES.get(f"{name} {key}") or RANGES[key]
    for value in inside:
        ends = {"lowest": value, "highest": value} if key in ("lowest", "highest") else {}
        assert make_attack(name, {**ends, key: value}).settings()[key] == value
    for value in outside:
        with pytest.raises(GenrobustError, match=f"^the attack '{name}' got {key}={value}: .*than"):
            make_attack(name, {key: value})


@pytest.mark.parametrize("name", [*attacks()])
def test_every_default_is_in_its_range(name: str) -> None:
    found = declared(name, ATTACKS.get(name))
    numbers = {k: one.default for k, one in found.items() if isinstance(one.default, (int, float))}
    assert make_attack(name, numbers).settings() == make_attack(name).settings()


def test_a_refusal_says_what_was_given_what_is_allowed_and_what_is_usual() -> None:
    with pytest.raises(GenrobustError) as told:
        make_attack("square", {"first_share": -2})
    assert str(told.value) == (
        "the attack 'square' got first_share=-2: Input should be greater than 0; its default is 0.3"
    )
    with pytest.raises(GenrobustError, match="got hope=3: Input should be less than or equal to 1"):
        make_attack("neighbours", {"hope": 3})
    assert make_attack("neighbours", {"hope": None}).settings()["hope"] is None


def test_a_number_in_its_range_stays_as_it_was_given() -> None:
    entry = AttackEntry(attack="neighbours", goal="untargeted", settings={"hope": 1})
    assert make_attack("neighbours", entry.settings).settings()["hope"] is entry.settings["hope"]
    assert entry.label == "neighbours untargeted (hope=1)"


@pytest.mark.parametrize("where", ["Python", "the command line"])
def test_a_run_with_such_a_setting_does_not_start(where: str, tmp_path: Path) -> None:
    suite = load_suite("digits").limited(2)
    wrong = AttackEntry(attack="classifier", goal="untargeted", settings={"patience": -1})
    own = suite.model_copy(update={"name": "mine", "attacks": (wrong,)})
    (tmp_path / "mine.json").write_text(own.model_dump_json())
    said = "the attack 'classifier' got patience=-1"
    if where == "Python":
        with pytest.raises(GenrobustError, match=said):
            genrobust.bench("vae", own, out=tmp_path / "out")
    else:
        typed = ["bench", "--model", "vae", "--suite", str(tmp_path / "mine.json")]
        found = CliRunner().invoke(app, [*typed, "--out", str(tmp_path / "out")])
        assert found.exit_code == 2
        assert said in " ".join(found.output.split())
    assert not list(tmp_path.glob("out/*"))


# Attacks of others


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


def test_a_sweep_whose_ends_are_exchanged_is_refused() -> None:
    """Its weights would fall, and the last before one is too large would be the first."""
    ends = {"lowest": 2.0, "highest": 1.0}
    with pytest.raises(GenrobustError, match="got lowest=2, which is above highest=1; give the"):
        make_attack("gondim-latent", ends)
    assert make_attack("gondim-latent", {**ends, "highest": 2.0}).settings()["lowest"] == 2.0
