"""Results belong to the model that gave them: any edit that may change them starts a run anew."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import genrobust
from genrobust.attacks import ATTACKS
from genrobust.attacks.noise import Noise
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models.identity import IMAGES, Identity, identity
from genrobust.norms import NORMS
from genrobust.objectives.base import OBJECTIVES
from genrobust.reach import reach
from genrobust.records.record import Record
from genrobust.registry import Registry
from genrobust.rules import RULES
from genrobust.runner import prepare as preparing
from genrobust.runner.options import Options
from genrobust.runner.prepare import prepare
from genrobust.runner.provenance import libraries, provenance
from genrobust.suites import AttackEntry, Suite, load_suite

pytestmark = pytest.mark.usefixtures("brief")

HEAD = """
import torch
from torch import nn
import genrobust
"""

NET = """
class Net(nn.Module):
    input_shape = (1, 32, 32)
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
    def encode(self, x):
        return 0.1 + 0.8 * x.flatten(1) * self.weight
    def decode(self, z):
        return z.view(-1, 1, 32, 32)
def build(): return Net()
"""

#: What a file says, and what its author changes there. One ``@`` stands for the number.
EDITS = {
    "code": NET.replace("z.view", "(z * @).view"),
    "a layer's argument": NET.replace("ones(1))", "ones(1))\n        self.f = nn.Hardtanh(0, @)")
    .replace("z.view", "self.f(z).view"),
    "an argument that only shifts a slope": NET.replace(
        "ones(1))", "ones(1))\n        self.f = nn.LeakyReLU(@)"
    ).replace("z.view", "self.f(z).clamp(0, 1).view"),
    "an argument that does nothing in eval mode": NET.replace(
        "ones(1))", "ones(1))\n        self.f = nn.Dropout(@)"
    ).replace("z.view", "self.f(z).view"),
    "a plain attribute": NET.replace("ones(1))", "ones(1))\n        self.s = @").replace(
        "z.view", "(z * self.s).view"
    ),
    "an entry of a dictionary": NET.replace(
        "ones(1))", "ones(1))\n        self.s = {'scales': [1.0, @]}"
    ).replace("z.view", "(z * self.s['scales'][1]).view"),
    "a tensor attribute": NET.replace(
        "ones(1))", "ones(1))\n        self.s = torch.tensor(@)"
    ).replace("z.view", "(z * self.s).view"),
    "an array attribute": NET.replace(
        "ones(1))", "ones(1))\n        import numpy\n        self.s = numpy.array([@], 'f4')"
    ).replace("z.view", "(z * torch.from_numpy(self.s)).view"),
    "a buffer that is not saved": NET.replace(
        "ones(1))",
        "ones(1))\n        self.register_buffer('s', torch.tensor(@), persistent=False)",
    ).replace("z.view", "(z * self.s).view"),
    "a global constant": NET.replace("z.view", "(z * SCALE).view") + "SCALE = @\n",
    "a global tensor": NET.replace("z.view", "(z * SCALE).view") + "SCALE = torch.tensor(@)\n",
    "a function beside the class": NET.replace("z.view", "scaled(z).view")
    + "def scaled(z): return z * @\n",
    "a method that a method calls": NET.replace("z.view", "self.scaled(z).view").replace(
        "    def decode", "    def scaled(self, z): return z * @\n    def decode"
    ),
    "a default argument": NET.replace("def decode(self, z)", "def decode(self, z, s=@)").replace(
        "z.view", "(z * s).view"
    ),
    "a class attribute": NET.replace("    input_shape", "    scale = @\n    input_shape").replace(
        "z.view", "(z * self.scale).view"
    ),
    "encode=": NET.replace(
        "return Net()", "return genrobust.wrap(Net(), encode=lambda x: x.flatten(1) * @)"
    ),
    "decode=": NET.replace(
        "return Net()",
        "return genrobust.wrap(Net(), decode=lambda z: (z * @).view(-1, 1, 32, 32))",
    ),
    "deploy=": NET.replace("return Net()", "return genrobust.wrap(Net(), deploy=lambda x: x * @)"),
    "a partial": NET.replace(
        "return Net()",
        "\n    import functools\n    f = functools.partial(scaled, s=@)\n"
        "    return genrobust.wrap(Net(), decode=f)",
    )
    + "def scaled(z, s): return (z * s).view(-1, 1, 32, 32)\n",
    "weights of a decoder that is a second module": NET.replace(
        "return Net()",
        "\n    second = nn.Linear(1, 1)\n"
        "    nn.init.constant_(second.weight, @)\n    nn.init.zeros_(second.bias)\n"
        "    def decode(z): return second(z.view(-1, 1, 32, 32, 1))[..., 0]\n"
        "    return genrobust.wrap(Net(), decode=decode)",
    ),
    "weights of a decoder whose method is given": NET.replace(
        "return Net()",
        "\n    second = Net()\n    nn.init.constant_(second.weight, @)\n"
        "    return genrobust.wrap(Net(), decode=second.scaled)",
    ).replace(
        "    def decode",
        "    def scaled(self, z): return (z * self.weight).view(-1, 1, 32, 32)\n    def decode",
    ),
}  # fmt: skip

#: Those that change what the model works with in numbers, so that its fingerprint tells.
NUMBERS = [name for name in EDITS if "tensor" in name or "weights" in name] + [
    "an array attribute",
    "a buffer that is not saved",
]

Place = Callable[[str, str], str]


@pytest.fixture(scope="session")
def noise() -> Suite:
    """Two digits and an attack that takes no time."""
    suite = load_suite("digits").limited(2).with_attacks(["noise"]).with_eps([0.1])
    apart = {"rule": "distance", "attacker_judge": None, "scoring_judges": ()}
    return suite.model_copy(update={"resamples": 50, **apart})


class Shaded(nn.Module):
    """Its codes are its images, a little greyer."""

    input_shape = (1, 32, 32)

    def encode(self, x: Tensor) -> Tensor:
        return 0.1 + 0.8 * x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.view(-1, *self.input_shape)


@pytest.fixture
def shaded() -> nn.Module:
    """A model that is soon checked and whose identity is soon found."""
    return Shaded()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Writes a model's file with a number in it, and gives the reference."""

    def write(text: str, number: str) -> str:
        (tmp_path / "my_model.py").write_text(HEAD + text.replace("@", number))
        return f"{tmp_path / 'my_model.py'}:build"

    return write


def shards(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("shards/*.safetensors")}


def identity_of(reference: str) -> str:
    images = genrobust.load_images("digits", "test").take(range(2))
    return identity(genrobust.load_model(reference), images).whole


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_starts_a_run_anew_and_undone_it_is_the_same_model(edit: str, place: Place) -> None:
    one, other = identity_of(place(EDITS[edit], "0.75")), identity_of(place(EDITS[edit], "0.5"))
    assert one != other
    assert identity_of(place(EDITS[edit], "0.75")) == one


@pytest.mark.parametrize("edit", ["code", "a tensor attribute", "deploy="])
@pytest.mark.filterwarnings("ignore::genrobust.errors.GenrobustWarning")
def test_bench_never_takes_the_results_of_the_model_before_the_edit(
    edit: str, place: Place, noise: Suite, tmp_path: Path
) -> None:
    def scores(number: str, folder: str) -> object:
        return genrobust.bench(place(EDITS[edit], number), noise, out=tmp_path / folder).scores

    before = scores("1.0", "kept")
    done = shards(tmp_path / "kept")
    after = scores("0.2", "kept")
    assert after == scores("0.2", "fresh") != before
    assert scores("1.0", "kept") == before
    assert shards(tmp_path / "kept").keys() >= done.keys()


@pytest.mark.parametrize("edit", NUMBERS)
def test_numbers_outside_the_state_dict_are_in_the_fingerprint(edit: str, place: Place) -> None:
    prints = [
        genrobust.load_model(place(EDITS[edit], number)).fingerprint()
        for number in ("0.75", "0.5", "0.75")
    ]
    assert prints[0] == prints[2] != prints[1]


def test_an_edited_helper_starts_a_run_anew(place: Place, tmp_path: Path) -> None:
    text = NET.replace("z.view", "scaled(z).view") + "from helper import scaled\n"
    seen = []
    for number in ("0.75", "0.25", "0.75"):
        (tmp_path / "helper.py").write_text(
            f"from inner import S\ndef scaled(z): return z * S * {number}"
        )
        (tmp_path / "inner.py").write_text("S = 1.0")
        seen.append(identity_of(place(text, "")))
    (tmp_path / "inner.py").write_text("S = 0.9")
    assert seen[0] == seen[2] != seen[1]
    assert identity_of(place(text, "")) != seen[0]


def test_a_helper_that_is_a_module_or_imported_at_run_time_counts(
    place: Place, tmp_path: Path
) -> None:
    for text in (
        NET.replace("z.view", "helper.scaled(z).view") + "import helper\n",
        NET.replace("z.view", "parts.helper.scaled(z).view") + "import parts.helper\n",
        NET.replace("        return z.view", "        from helper import scaled\n"
                    "        return scaled(z).view"),
    ):  # fmt: skip
        seen = []
        for number in ("0.75", "0.25"):
            for path in (tmp_path / "helper.py", tmp_path / "parts" / "helper.py"):
                path.parent.mkdir(exist_ok=True)
                # It does nothing to these images: only its code tells.
                path.write_text(f"def scaled(z): return z * {number} if z.mean() > 5 else z")
            seen.append(identity_of(place(text, "")))
        assert seen[0] != seen[1], text


def test_code_that_is_not_reached_does_not_matter(place: Place) -> None:
    unused = "def unused(): return @\nclass Other:\n    x = @\n"
    trains = NET.replace("    def decode", "    def fit(self): return @\n    def decode")
    for text in (NET + unused, trains):
        assert identity_of(place(text, "1")) == identity_of(place(text, "2"))
    assert identity_of(place(NET, "")) == identity_of(place("\n# a remark\n" + NET, ""))


def test_what_is_said_of_a_function_does_not_matter(place: Place) -> None:
    text = NET.replace("        return z", "        'It was @.'\n        return z", 1)
    text += "\ndef scaled(z):\n    'It was @.'\n    return z * 0.75\n"
    text = text.replace("z.view", "scaled(z).view")
    assert identity_of(place(text, "1")) == identity_of(place(text, "2"))


def test_where_a_traced_graph_comes_from_does_not_matter(place: Place) -> None:
    part = "class Part(nn.Module):\n    def forward(self, z): return z * @\n"
    traced = "return genrobust.wrap(Net(), decode=lambda z: TRACED(z).view(-1, 1, 32, 32))\n"
    text = NET.replace("return Net()", traced) + part
    text += "from torch.fx import symbolic_trace\nTRACED = symbolic_trace(Part())\n"
    one = identity_of(place(text, "0.75"))
    assert identity_of(place("# A remark.\n" + text, "0.75")) == one
    assert identity_of(place(text, "0.5")) != one


@pytest.mark.slow
def test_a_stopped_run_is_found_again_in_another_process(place: Place, tmp_path: Path) -> None:
    text = NET.replace("ones(1))", "ones(1))\n        self.s = {'a', 'b', 'c', 'd'}")
    reference = place(text + "K = {'x': 1.0}\n", "")
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += f"from test_identity import identity_of; print(identity_of({reference!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == identity_of(reference)


def test_the_same_model_computes_nothing_the_second_time(
    place: Place, noise: Suite, tmp_path: Path
) -> None:
    reference = place(NET, "")
    once = genrobust.bench(reference, noise, out=tmp_path / "out")
    done = shards(tmp_path / "out")
    content = (tmp_path / "out" / "record.json").read_bytes()
    assert genrobust.bench(reference, noise, out=tmp_path / "out") == once
    assert shards(tmp_path / "out") == done
    assert (tmp_path / "out" / "record.json").read_bytes() == content


@pytest.mark.parametrize("edit", ["code", "a tensor attribute"])
def test_results_of_another_model_are_replaced_with_what_was_made_from_them(
    edit: str, place: Place, noise: Suite, tmp_path: Path
) -> None:
    """Also of one with other numbers, which has no shard in common."""
    out = tmp_path / "out"
    genrobust.bench(place(EDITS[edit], "1.0"), noise, out=out)
    first = Record.load(out)
    (out / "evidence.zip").write_text("of the first model")
    with pytest.warns(GenrobustWarning, match="of another model, or of this one with other code"):
        genrobust.bench(place(EDITS[edit], "0.9"), noise, out=out)
    assert not (out / "evidence.zip").exists()
    with pytest.raises(GenrobustError, match="has pictures of another run, which took the place"):
        first.plot_examples()
    Record.load(out).plot_examples()
    assert Record.model_validate_json((out / "record.json").read_bytes()).suite == noise


def test_other_runs_of_a_model_leave_what_it_gave(
    shaded: nn.Module,
    noise: Suite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Whatever the identity of a run depends on beside the model."""

    def held() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if path.is_file()}

    genrobust.bench(shaded, noise, out=tmp_path)
    (tmp_path / "curve.json").write_text("of another run")
    before, (old,) = held(), shards(tmp_path)
    for suite in (noise.limited(1), noise.with_eps([0.05])):
        genrobust.bench(shaded, suite, out=tmp_path)
        assert before <= held()
    release = libraries
    monkeypatch.setattr(preparing, "libraries", lambda suite: release(suite) | {"x": "9.9.9"})
    content = (tmp_path / "shards" / old).read_bytes()
    genrobust.bench(shaded, noise, out=tmp_path)
    assert before <= held()
    assert (tmp_path / "shards" / old).read_bytes() != content, "of another release"
    assert not [w for w in recwarn if "holds results" in str(w.message)]


@pytest.mark.slow
def test_a_curve_never_takes_the_results_of_the_model_before_the_edit(
    place: Place, tmp_path: Path
) -> None:
    suite = load_suite("digits").with_attacks(["noise"]).limited(1)
    genrobust.minimum_norm(place(EDITS["code"], "1.0"), suite, out=tmp_path / "out")
    done = shards(tmp_path / "out")
    genrobust.minimum_norm(place(EDITS["code"], "1.0"), suite, out=tmp_path / "out")
    assert shards(tmp_path / "out") == done
    with pytest.warns(GenrobustWarning, match="another model"):
        genrobust.minimum_norm(place(EDITS["code"], "0.1"), suite, out=tmp_path / "out")
    assert shards(tmp_path / "out") != done


ATTACK = """
from dataclasses import dataclass
from genrobust.attacks.base import ATTACKS, Attack
from genrobust.attacks.noise import Noise
SCALE = {number}
@dataclass(frozen=True)
class Mine(Noise):
    name = "mine-of-this-test"
    paper = "none"
    def search(self, context, threat):
        return self.scaled(super().search(context, threat))
    def scaled(self, found):
        return {result} if SCALE else None
"""

OBJECTIVE = """
from dataclasses import dataclass
from genrobust.objectives.output import OutputDistance
SCALE = {number}
@dataclass(frozen=True)
class Mine:
    goals = ("targeted",)
    def __call__(self, x_adv, context):
        found = SCALE * OutputDistance()(x_adv, context),
        return {result}[0]
"""

RULE = """
from genrobust.rules import Rule, Words
LIMIT = {number}
class Mine(Rule):
    name = "mine-of-this-test"
    judges_needed = (0, 0)
    labelled = False
    words = Words(found="{} are near", eligible="Every.", success="Moved.")
    def look(self, images, sources):
        found = ((images - sources.reconstruction).flatten(1).norm(dim=1) > LIMIT).long(),
        return {result}[0]
"""

NORM = """
from genrobust.norms import Linf
SCALE = {number}
class Mine(Linf):
    name = "mine-of-this-test"
    def draw(self, shape, generator):
        found = super().draw(shape, generator) / SCALE,
        return {result}[0]
"""


def by_attack(suite: Suite) -> Suite:
    return suite.with_attacks(["mine-of-this-test"])


def by_objective(suite: Suite) -> Suite:
    one = AttackEntry(attack="objective:mine-of-this-test", goal="targeted", settings={"steps": 1})
    return suite.model_copy(update={"attacks": (one,)})


def by_rule(suite: Suite) -> Suite:
    rule = {"rule": "mine-of-this-test", "attacker_judge": None, "scoring_judges": ()}
    return suite.model_copy(update=rule)


def by_norm(suite: Suite) -> Suite:
    return suite.with_norm("mine-of-this-test")


#: A plugin's code, where its class is registered, and a suite that goes by it.
Code = tuple[str, Registry[Any], Callable[[Suite], Suite]]
CODE: dict[str, Code] = {
    "attack": (ATTACK, ATTACKS, by_attack),
    "objective": (OBJECTIVE, OBJECTIVES, by_objective),
    "rule": (RULE, RULES, by_rule),
    "norm": (NORM, NORMS, by_norm),
}


@pytest.mark.parametrize("edit", ["{number}", "{result}"])
@pytest.mark.parametrize("kind", CODE)
@pytest.mark.filterwarnings("ignore::genrobust.errors.GenrobustWarning")
def test_the_code_of_a_plugin_of_ones_own_counts(
    kind: str,
    edit: str,
    shaded: nn.Module,
    noise: Suite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a plugin's file does it: installed, so that its code is among libraries."""
    code, registry, going_by_it = CODE[kind]
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(registry, "_registered", {**registry._registered})
    found = []
    for version in ("one", "two", "one"):
        text = code.replace("{number}", "2" if edit == "{number}" and version == "two" else "1")
        changed = edit == "{result}" and version == "two"
        text = text.replace("{result}", "(*found,)" if changed else "found")
        path = site / "a_plugin_of_this_test.py"
        path.write_text(text)
        space: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
        exec(compile(text, str(path), "exec"), space)
        registry._registered["mine-of-this-test"] = space["Mine"]
        found.append(prepare(shaded, going_by_it(noise), Options()).identity)
    assert found[0] == found[2] != found[1]


@dataclass(frozen=True)
class Reading(Noise):
    """Goes by what is in a file, as an attack through another model does by its weights."""

    name = "reading-of-this-test"
    weights: Path | None = None
    other: str = "none"
    several: tuple[Path, ...] = ()
    named: dict[str, str] | None = None


@pytest.mark.parametrize("setting", ["weights", "other", "several", "named"])
def test_a_file_that_an_attack_of_ones_own_is_given_counts(
    setting: str,
    shaded: nn.Module,
    noise: Suite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ATTACKS._registered, "reading-of-this-test", Reading)
    file = tmp_path / "weights.pt"
    place = str(file)
    given: dict[str, Any] = {
        **{"weights": place, "other": place},
        **{"several": [place], "named": {"first": place}},
    }
    entry = AttackEntry(
        attack="reading-of-this-test", goal="targeted", settings={setting: given[setting]}
    )
    suite = noise.model_copy(update={"attacks": (entry,)})
    found = []
    for content in (None, "one", "two", "one"):
        if content is not None:
            file.write_text(content)
        found.append(prepare(shaded, suite, Options()).identity)
    assert found[1] == found[3]
    assert len(set(found)) == 3


def test_what_genrobust_ships_adds_nothing_to_the_identity_of_a_model(noise: Suite) -> None:
    suite = noise.with_attacks(["objective:output-distance", "latent"]).with_norm("l2")
    images, model = genrobust.load_images("digits"), genrobust.load_model("vae")
    alone = identity(model, images.take(suite.sample_ids[:IMAGES])).whole
    expected = hashlib.sha256(alone.encode()).hexdigest()
    assert prepare("vae", suite, Options()).identity == expected


@pytest.mark.parametrize(
    ("attack", "library"), [("foolbox:LinfPGD", "foolbox"), ("sabour", "scipy")]
)
def test_another_release_of_the_library_that_searches_starts_a_run_anew(
    attack: str, library: str, shaded: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = load_suite("digits").limited(2).with_attacks(["noise"])  # with the judge it may need
    suite = noise.with_attacks([attack])
    before = libraries(suite)
    one, without = (prepare(shaded, s, Options()).identity for s in (suite, noise))
    monkeypatch.setattr(import_module(library), "__version__", "9.9.9")
    other = prepare(shaded, suite, Options())
    assert other.identity != one
    assert prepare(shaded, noise, Options()).identity == without
    assert before.keys() == {library}
    said = provenance("", "cpu", [], libraries(suite)).packages
    assert said[library] == "9.9.9" != before[library]


@pytest.mark.parametrize(("function", "library"), [("lbfgsb", "scipy"), ("fit_probe", "sklearn")])
def test_what_leaves_its_search_to_a_library_says_so(function: str, library: str) -> None:
    for name in ATTACKS.names():
        kind = ATTACKS.get(name)
        calls = any(function in vars(sys.modules[one.__module__]) for one in kind.__mro__)
        assert not calls or library in kind.libraries, name


@pytest.mark.parametrize("part", ["images", "labels"])
@pytest.mark.parametrize(
    ("dataset", "own"), [("digits", False), ("digits?shape=1x32x32&classes=10", True)]
)
def test_other_training_images_of_ones_own_start_a_run_anew(
    dataset: str, own: bool, part: str, noise: Suite
) -> None:
    """Those of a registered data set are always the same."""
    images, model = genrobust.load_images("digits"), Identity("0", "0", "0")
    suite = noise.model_copy(update={"dataset": dataset})
    given = images.take(range(9)), images.labels_of(range(9))
    changed = {"images": (given[0].flip(0), given[1]), "labels": (given[0], given[1].flip(0))}[part]
    one, other, without = (
        preparing._identity(model, suite, references) for references in (given, changed, None)
    )
    assert (one != other) is (one != without) is own


class Keeps(nn.Module):
    """Keeps its last code, and one of each batch size."""

    input_shape = (1, 4, 4)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(16))
        self.last = torch.zeros(1)
        self.table = torch.ones(16)

    def encode(self, x: Tensor) -> Tensor:
        self.last = x.flatten(1) * self.weight * self.table
        return self.last

    def decode(self, z: Tensor) -> Tensor:
        return z.view(-1, 1, 4, 4)


def test_what_a_module_keeps_of_its_last_batch_is_not_in_its_fingerprint() -> None:
    module = Keeps()
    model = genrobust.wrap(module)
    before = model.fingerprint()
    for count in (1, 7):
        model.reconstruct(torch.rand(count, 1, 4, 4))
        assert model.fingerprint() == before
    module.table = torch.full((16,), 0.5)
    assert model.fingerprint() != before


def test_a_tensor_that_is_also_a_weight_is_covered_once(tmp_path: Path) -> None:
    class Net(Keeps):
        def __init__(self) -> None:
            super().__init__()
            del self.last, self.table
            self.view = self.weight.data[:4]

        def encode(self, x: Tensor) -> Tensor:
            return x.flatten(1) * self.weight

    assert genrobust.wrap(Net())._tensors_beyond() == {}


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.eye(3, dtype=torch.complex64).conj(),
        torch.eye(3, dtype=torch.bfloat16),
        torch.eye(3, device="meta"),
        torch.zeros(0, 3),
        torch.nested.nested_tensor([torch.zeros(1), torch.ones(2)]),
    ],
    ids=["sparse", "conjugate", "bfloat16", "meta", "empty", "nested"],
)
def test_tensors_of_any_kind_can_be_reached(tensor: Tensor) -> None:
    module = Keeps()
    module.odd = tensor
    model = genrobust.wrap(module)
    images = torch.zeros(2, 1, 4, 4)
    assert model.fingerprint() == model.fingerprint()
    assert identity(model, images) == identity(model, images)


class Loop:
    """Refers to itself, holds what cannot be hashed, and a great deal."""

    __slots__ = ("me", "numbers", "odd")

    def __init__(self, last: float) -> None:
        self.me = self
        self.odd = [{}, object(), float("nan"), np.array([object()]), 10**5000, "\ud800"]
        self.numbers = [0.0] * 300_000 + [last]


def test_odd_values_are_followed_and_told_apart() -> None:
    codes = [reach({"loop": Loop(last)}).code for last in (1.0, 1.0, 2.0)]
    assert codes[0] == codes[1] != codes[2]
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert reach({"deep": deep}).code
