"""Where decode takes more than one code of what encode gives, the error names lines that work."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning

pytestmark = pytest.mark.usefixtures("brief")

LEVELS = r"(encode=lambda x: \[genrobust\.Point.*?)( and decode=.*?)? if these are the codes"
ALONE = r"(encode=torch\.nn\.Identity\(\))( and decode=.*?)? to read"


class Net(nn.Module):
    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.one, self.two = nn.Linear(64, 6), nn.Linear(64, 6)
            self.gate, self.picture = nn.Linear(64, 3), nn.Linear(6, 64)
            self.experts = nn.Parameter(torch.randn(3, 6))

    def draw(self, z: Tensor) -> Tensor:
        return self.picture(z).sigmoid().view(-1, 1, 8, 8)


class TwoLevels(Net):
    def encode(self, x: Tensor) -> Any:
        return [self.one(x.flatten(1)), self.two(x.flatten(1))]


class Levels(TwoLevels):
    def decode(self, codes: Any) -> Tensor:
        return self.draw(codes[0] * codes[1])


class TupleOfLevels(Levels):
    def encode(self, x: Tensor) -> Any:
        return tuple(super().encode(x))

    def decode(self, codes: Any) -> Tensor:
        assert isinstance(codes, tuple)
        return super().decode(codes)


class SpreadLevels(TwoLevels):
    def decode(self, first: Tensor, second: Tensor) -> Tensor:
        return self.draw(first * second)


class HeldLevels(Levels):
    def encode(self, x: Tensor) -> Any:
        return {"z": super().encode(x), "kl": x.mean()}


class TopK(Net):
    def encode(self, x: Tensor) -> Any:
        return tuple(self.one(x.flatten(1)).topk(2, 1))

    def decode(self, values: Tensor, places: Tensor) -> Tensor:
        return self.draw(torch.zeros(len(values), 6).scatter(1, places, values))


class Gated(Net):
    def encode(self, x: Tensor) -> Any:
        return self.one(x.flatten(1)), self.gate(x.flatten(1)).argmax(1)

    def decode(self, code: Tensor, expert: Tensor) -> Tensor:
        return self.draw(code * self.experts[expert])


class Named(TopK):
    def encode(self, x: Tensor) -> Any:
        values, places = super().encode(x)
        return {"values": values, "places": places}


def with_forward(kind: type[Any], put: Callable[[Any, Any], Tensor]) -> Any:
    def forward(self: Any, x: Tensor) -> Tensor:
        return put(self.decode, self.encode(x))

    return type(kind.__name__, (kind,), {"forward": forward})()


def whole(decode: Any, given: Any) -> Any:
    return decode(given)


def spread(decode: Any, given: Any) -> Any:
    return decode(**given) if isinstance(given, dict) else decode(*given)


def held(decode: Any, given: Any) -> Any:
    return decode(given["z"])


CASES: dict[str, tuple[type[Any], Callable[[Any, Any], Any]]] = {
    "a list": (Levels, whole),
    "a tuple": (TupleOfLevels, whole),
    "one by one": (SpreadLevels, spread),
    "a list in a dictionary": (HeldLevels, held),
    "values and places": (TopK, spread),
    "a code and its expert": (Gated, spread),
    "by name": (Named, spread),
}


def refusal(module: nn.Module) -> str:
    with pytest.raises(
        GenrobustError, match="decode takes all of what the encoder returned"
    ) as told:
        genrobust.wrap(module)
    return str(told.value)


def as_typed(module: nn.Module, told: str, pattern: str) -> Any:
    """The model, wrapped by the line that an error names."""
    line = re.search(pattern, told)
    assert line is not None, told
    given = line[1] + (line[2] or "").replace(" and ", ", ", 1)
    return eval(f"genrobust.wrap(module, {given})", {**globals(), "module": module})


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("forward", [True, False], ids=["a forward", "no forward"])
def test_the_line_that_is_named_reads_the_model_as_it_is(case: str, forward: bool) -> None:
    kind, put = CASES[case]
    module = with_forward(kind, put) if forward else kind()
    told = refusal(module)
    x = torch.rand(3, 1, 8, 8)
    patterns = [ALONE, LEVELS] if issubclass(kind, TwoLevels) else [ALONE]
    for pattern in patterns:
        model = as_typed(module, told, pattern)
        torch.testing.assert_close(model.reconstruct(x), put(module.decode, module.encode(x)))
    assert ("hierarchy" in told) == issubclass(kind, TwoLevels)
    assert ("forward" in told) == forward


def test_levels_are_parts_of_one_code_that_attacks_know() -> None:
    module = Levels()
    model = as_typed(module, refusal(module), LEVELS)
    assert model.encode(torch.rand(2, 1, 8, 8)).describe() == "6 point + 6 point"


def test_levels_that_decode_takes_one_by_one_may_also_be_a_code_and_a_label() -> None:
    assert "of a conditional model pass labels=" in refusal(SpreadLevels())
    assert "labels=" not in refusal(Levels())


def test_a_code_that_decode_takes_alone_is_named_alone() -> None:
    class Quantised(Net):
        def encode(self, x: Tensor) -> Any:
            return self.one(x.flatten(1)), torch.zeros(len(x), dtype=torch.long)

        def decode(self, code: Any) -> Tensor:
            return self.draw(code[0] if isinstance(code, tuple) else code)

    with pytest.raises(GenrobustError, match=r"pass encode=lambda x: module\.encode\(x\)\[0\] if"):
        genrobust.wrap(Quantised())


def test_layers_in_a_tuple_are_told_how_to_be_a_list() -> None:
    class Layers(Levels):
        def encode(self, x: Tensor) -> Any:
            first, second = super().encode(x)
            return (first, second - 2), (second, first - 2)

    module = Layers()
    with pytest.raises(GenrobustError, match=r"encode=lambda x: list\(module\.encode\(x\)\) if"):
        genrobust.wrap(module)
    model = genrobust.wrap(module, encode=lambda x: list(module.encode(x)))
    assert model.encode(torch.rand(2, 1, 8, 8)).describe() == "6 Gaussian + 6 Gaussian"


def test_whole_numbers_alone_are_handed_over_where_no_gradient_is_asked_for() -> None:
    class Places(Net):
        def encode(self, x: Tensor) -> Any:
            return [part(x.flatten(1)).argmax(1) for part in (self.one, self.two)]

        def decode(self, places: Any) -> Tensor:
            return self.draw(sum(nn.functional.one_hot(p, 6).float() for p in places))

    with pytest.raises(GenrobustError) as told:
        genrobust.wrap(Places())
    assert "Identity" not in str(told.value)  # that leads to a model without a gradient
    with pytest.raises(GenrobustError, match=r"Identity\(\) and decode="):
        genrobust.wrap(Places(), differentiable=False)


@pytest.mark.parametrize("together", [True, False])
def test_means_and_log_variances_in_turn_are_told_how_to_be_layers(together: bool) -> None:
    class Flat(Levels):
        def encode(self, x: Tensor) -> Any:
            first, second = super().encode(x)
            return first, second - 2, second, first - 2

    class Spread(Flat):
        def decode(self, *codes: Tensor) -> Tensor:
            first, second = codes
            return super().decode([first, second])

    module = Flat() if together else Spread()
    with pytest.raises(GenrobustError) as told:
        genrobust.wrap(module)
    pattern = r"(encode=lambda x: \(lambda o.*?)( and decode=.*?)? if these are the mean"
    model = as_typed(module, str(told.value), pattern)
    x = torch.rand(3, 1, 8, 8)
    assert model.encode(x).describe() == "6 Gaussian + 6 Gaussian"
    torch.testing.assert_close(model.reconstruct(x), Levels.decode(module, module.encode(x)[::2]))


def test_a_code_that_is_searched_by_gradients_is_told_to_ask_for_them() -> None:
    class Refined(Net):
        def encode(self, x: Tensor) -> Tensor:
            z = self.one(x.flatten(1))
            z = z if z.requires_grad else z.requires_grad_()
            error = (self.decode(z) - x).square().sum()
            return z - 0.1 * torch.autograd.grad(error, z, create_graph=True)[0]

        def decode(self, z: Tensor) -> Tensor:
            return self.draw(z)

    module = Refined()
    with pytest.raises(GenrobustError, match=r"or pass encode=torch\.enable_grad\(\)\(f\)"):
        genrobust.wrap(module)
    model = genrobust.wrap(module, encode=torch.enable_grad()(module.encode))
    assert not model.reconstruct(torch.rand(2, 1, 8, 8)).isnan().any()


class Two(Net):
    """Two codes of one shape, and a decoder that does with the first alone too."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.to_other = nn.Linear(64, 6)

    def encode(self, x: Tensor) -> Any:
        return self.one(x.flatten(1)), self.to_other(x.flatten(1)) - 2

    def decode(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        return self.draw(a if b is None else a * b)


class Many(Two):
    def decode(self, *codes: Tensor) -> Tensor:
        return self.draw(sum(codes[1:], codes[0]))


class Styled(Two):
    """A code, and a style that decode takes if it is given one."""

    def decode(self, z: Tensor, style: Any = None) -> Tensor:
        if isinstance(style, list):
            (style,) = style
        return self.draw(z if style is None else z + style.repeat(1, 3))

    def style(self, x: Tensor) -> Tensor:
        return self.to_other(x.flatten(1))[:, :2]


class StyleByName(Styled):
    def encode(self, x: Tensor) -> Any:
        return {"z": self.one(x.flatten(1)), "style": self.style(x)}


class StyleInTuple(Styled):
    def encode(self, x: Tensor) -> Any:
        return namedtuple("Output", "z style")(self.one(x.flatten(1)), self.style(x))


class StyleBesideMean(Styled):
    def encode(self, x: Tensor) -> Any:
        return *super().encode(x), self.style(x)


class StyleInList(Styled):
    def encode(self, x: Tensor) -> Any:
        return {"z": self.one(x.flatten(1)), "style": [self.style(x)]}


def whole(module: Two, x: Tensor) -> Tensor:
    """What decode makes of all that it takes."""
    if isinstance(module, Styled):
        code = module.one(x.flatten(1))
        return module.decode(code, module.style(x))
    return module.decode(*module.encode(x))


@pytest.mark.parametrize(
    "kind", [Two, Many, StyleByName, StyleInTuple, StyleBesideMean, StyleInList]
)
def test_of_more_that_decode_takes_than_the_code_it_is_said(kind: type[Two]) -> None:
    module, x = kind(), torch.rand(3, *kind.input_shape)
    with pytest.warns(GenrobustWarning, match=r"may be misread: .* decode takes o.* too") as caught:
        genrobust.wrap(module)
    (told,) = (str(w.message) for w in caught)
    typed = re.split(" if they are| to read", told.split("; pass ")[1])[0]
    typed = typed.replace(" and decode", ", decode")
    given = eval(f"dict({typed})", {"module": module, "genrobust": genrobust, "torch": torch})
    model = genrobust.wrap(module, **given)
    torch.testing.assert_close(model.reconstruct(x), whole(module, x))


class Tempered(Two):
    def decode(self, z: Tensor, temperature: float = 1.0) -> Tensor:
        return self.draw(z / temperature)


class Redraws(Two):
    def decode(self, mean: Tensor, logvar: Tensor | None = None) -> Tensor:
        if logvar is None:
            return self.draw(mean)
        return self.draw(mean + (0.5 * logvar).exp() * torch.randn_like(mean))


class Told(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [Tempered, Redraws, Told])
def test_a_mean_that_decode_takes_beside_something_else_raises_no_word(kind: type[Two]) -> None:
    genrobust.wrap(kind())


def test_a_label_that_need_not_be_given_is_no_second_code() -> None:
    class Labelled(TwoLevels):
        def decode(self, z: Tensor, label: Tensor | None) -> Tensor:
            return self.draw(z if label is None else z + label.sum(1, keepdim=True))

    module = with_forward(Labelled, lambda decode, codes: decode(codes[0], None))
    with pytest.raises(GenrobustError, match="it takes more than a batch; of a cond") as told:
        genrobust.wrap(module)
    line = re.search(r"such as (lambda z: .*?\))", str(told.value))
    assert line is not None
    model = genrobust.wrap(module, decode=eval(line[1], {"module": module}))
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(model.reconstruct(x), module(x))


class Layers(Net):
    def pairs(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        first, second = self.one(x.flatten(1)), self.two(x.flatten(1))
        return [(first, -1 - first.square()), (second[:, :4], second[:, :4] - 3)]

    def encode(self, x: Tensor) -> Any:
        return self.pairs(x)

    def decode(self, *codes: Any) -> Tensor:
        first, second = codes[0] if len(codes) == 1 else codes
        return self.draw(first * torch.nn.functional.pad(second, (0, 2), value=1.0))


class ApartLayers(Layers):
    def decode(self, first: Tensor, second: Tensor) -> Tensor:
        return super().decode([first, second])


class ApartNormals(ApartLayers):
    def encode(self, x: Tensor) -> Any:
        return [torch.distributions.Normal(m, (v / 2).exp()) for m, v in self.pairs(x)]


class ListsOfLayers(Layers):
    def encode(self, x: Tensor) -> Any:
        return tuple(map(list, zip(*self.pairs(x), strict=True)))


class NamedLists(Layers):
    def encode(self, x: Tensor) -> Any:
        means, logvars = zip(*self.pairs(x), strict=True)
        return {"mu": list(means), "std": [(v / 2).exp() for v in logvars]}


class NamedLayers(Layers):
    def encode(self, x: Tensor) -> Any:
        return dict(zip(("low", "high"), self.pairs(x), strict=True))

    def decode(self, codes: Any) -> Tensor:
        return super().decode(codes["low"], codes["high"])


@pytest.mark.parametrize(
    "kind", [ApartLayers, ApartNormals, ListsOfLayers, NamedLists, NamedLayers]
)
def test_layers_in_other_forms_than_a_list_are_told_how_to_be_one(kind: type[Layers]) -> None:
    module, x = kind(), torch.rand(5, 1, 8, 8)
    with pytest.raises(GenrobustError) as caught:
        genrobust.wrap(module)
    found = re.search(r"pass ((?:encode|decode)=.*?)(?: if these are .*)?$", str(caught.value))
    assert found is not None
    line = found[1].replace(" and decode=", ", decode=")
    model = genrobust.wrap(module, **eval(f"dict({line})", {"module": module}))
    (first, spread), (second, _) = module.pairs(x)
    assert model.encode(x).describe() == "6 Gaussian + 4 Gaussian"
    torch.testing.assert_close(model.encode(x).parts[0].logvar, spread)
    torch.testing.assert_close(model.reconstruct(x), Layers.decode(module, first, second))
