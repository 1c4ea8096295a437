"""Models as data: what comes back is the same model, and what a stranger sends can do nothing."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn
from torch import distributions as D
from torch.nn import functional as F

import genrobust
from genrobust.errors import GenrobustError, GenrobustWarning
from genrobust.models import wrap
from genrobust.models.identity import identity
from genrobust.models.inputs import probe_images
from genrobust.models.networks import NetworkSpec, initialised
from genrobust.models.portable import GRAPH, WEIGHTS, PortableLimits, export_model, load_portable
from genrobust.models.portable.graph import (
    _CORE_LATER,
    Graph,
    InputRef,
    Node,
    NodeRef,
    RunLimits,
    Runner,
    operation,
)
from genrobust.models.portable.tracing import _stop_gradients, trace
from genrobust.models.tensors import TensorLimits
from genrobust.posterior import Categorical, Gaussian, Point, Posterior

Bundle = tuple[dict[str, Any], dict[str, bytes]]


class Mixed(nn.Module):
    """Gaussian, categorical and point parts; batch norm, attention, and sizes taken by len()."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self.conv = nn.Conv2d(1, 4, 3, 2, 1)
            self.norm = nn.BatchNorm2d(4)
            nn.init.uniform_(self.norm.running_var, 0.5, 2)
            nn.init.normal_(self.norm.running_mean)
            self.latents = nn.Linear(64, 2 * 3 + 4 + 2)
            self.from_code, self.to_image = nn.Linear(9, 64), nn.Linear(64, 64)
            self.dropout = nn.Dropout()
            self.unused = nn.Linear(2, 2)
            self.register_buffer("scale", torch.tensor(0.7), persistent=False)

    def encode(self, x: Tensor) -> Posterior:
        hidden = F.leaky_relu(self.norm(self.conv(x)), 0.2, inplace=True)
        tokens = hidden.view(len(x), 4, 16)
        mixed = hidden.view(x.shape[0], -1) + F.scaled_dot_product_attention(
            tokens, tokens, tokens
        ).flatten(1)
        mean, logvar, logits, value = self.latents(mixed * self.scale).split([3, 3, 4, 2], 1)
        return Posterior((Gaussian(mean, logvar), Categorical(logits), Point(value)))

    def decode(self, code: Tensor) -> Tensor:
        hidden = self.dropout(F.silu(self.from_code(code)))
        image: Tensor = self.to_image(hidden).view(-1, 1, 8, 8) * torch.tensor(6.0)
        return image


@pytest.fixture(scope="module")
def mixed() -> genrobust.GenerativeModel:
    return wrap(Mixed(), value_range=(-1, 1), clamp=True, name="mixed")


@pytest.fixture(scope="module")
def exported(mixed: genrobust.GenerativeModel) -> Bundle:
    return export_model(mixed)


@pytest.fixture(scope="module")
def loaded(exported: Bundle) -> genrobust.GenerativeModel:
    """For tests that leave it as it is."""
    spec, contents = exported
    return load_portable(json.loads(json.dumps(spec)), contents)


def assert_same(ours: genrobust.GenerativeModel, theirs: genrobust.GenerativeModel) -> None:
    """Deployed images, latent vectors, parts, and the gradient of an attack's loss."""
    for size in (1, 2, 7, 16):
        x = probe_images(theirs.input_shape, size).requires_grad_()
        found: list[list[Tensor]] = []
        for model in (ours, theirs):
            q = model.encode(x)
            tensors = [*(t for part in q.parts for t in vars(part).values()), q.vector()]
            loss = model.surrogate(x, "softmax").square().sum() + q.vector().square().sum()
            found.append([*tensors, model.reconstruct(x), torch.autograd.grad(loss, x)[0]])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
        assert [type(p) for p in ours.encode(x).parts] == [type(p) for p in theirs.encode(x).parts]


def test_an_exported_model_is_the_same_model(
    mixed: genrobust.GenerativeModel, exported: Bundle, loaded: genrobust.GenerativeModel
) -> None:
    spec, contents = exported
    assert (spec["format"], contents.keys()) == ("exported", {WEIGHTS, GRAPH})
    assert_same(loaded, mixed)
    assert (loaded.name, loaded.input_shape, loaded.clamp) == ("mixed", (1, 8, 8), True)
    x = torch.full((1, 1, 8, 8), 0.5)
    assert loaded.reconstruct(x).min() >= 0
    assert mixed.decode(mixed.encode(x).mode()).max() > 1  # what only the clamp hides


def test_weights_keep_their_names_and_count(
    mixed: genrobust.GenerativeModel, exported: Bundle, loaded: genrobust.GenerativeModel
) -> None:
    weights = load(exported[1][WEIGHTS])
    state = mixed.module.state_dict()
    own = {name: tensor for name, tensor in weights.items() if not name.startswith("constant.")}
    for name in own.keys() & state.keys():
        assert torch.equal(own[name], state[name])
    assert own.keys() - state.keys() == {"scale"}
    unused = {"unused.weight", "unused.bias", "norm.num_batches_tracked"}
    assert state.keys() - own.keys() == unused
    assert loaded.parameters == mixed.parameters - 6


@pytest.mark.slow
def test_a_loaded_model_can_be_exported_again_and_copied(
    exported: Bundle, loaded: genrobust.GenerativeModel
) -> None:
    assert export_model(loaded) == exported
    assert_same(copy.deepcopy(loaded), loaded)
    again = export_model(wrap(Mixed(), value_range=(-1, 1), clamp=True, name="mixed"))
    assert again == exported


def test_a_loaded_model_is_the_same_to_whoever_loads_it(exported: Bundle) -> None:
    """A run goes on from one of an equal identity, and tensors come out of a file in any order."""
    x = probe_images((1, 8, 8), 2)
    assert len({identity(load_portable(*exported), x).whole for _ in range(2)}) == 1


def test_a_loaded_model_makes_all_its_tensors_where_its_weights_are(exported: Bundle) -> None:
    loaded = load_portable(*exported)
    loaded.module.to("meta")  # refuses any tensor that is left behind
    assert loaded.reconstruct(torch.empty(4, 1, 8, 8, device="meta")).device.type == "meta"


def test_a_loaded_model_serves_several_threads(
    exported: Bundle, loaded: genrobust.GenerativeModel
) -> None:
    fresh = load_portable(*exported)
    batches = [probe_images((1, 8, 8), size) for size in range(2, 12)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fresh.reconstruct, batches))
    for x, found in zip(batches, together, strict=True):
        torch.testing.assert_close(found, loaded.reconstruct(x), rtol=1e-6, atol=1e-6)


def test_the_fingerprint_covers_graph_weights_shape_and_clamp(
    exported: Bundle, loaded: genrobust.GenerativeModel
) -> None:
    spec, contents = exported
    program = json.loads(contents[GRAPH])
    slope = next(n for n in program["encode"]["nodes"] if n["op"] == "aten.leaky_relu.default")
    slope["args"][1] = 0.3
    weights = load(contents[WEIGHTS])
    weights["conv.bias"] = weights["conv.bias"] + 1e-6
    changed = [{GRAPH: json.dumps(program).encode()}, {WEIGHTS: save(weights)}]
    others = [load_portable(spec, {**contents, **change}) for change in changed]
    prints = [model.fingerprint() for model in (loaded, *others)]
    unclamped = dataclasses.replace(loaded, clamp=False)
    assert len({*prints, unclamped.fingerprint()}) == 4
    renamed = load_portable({**spec, "name": "other"}, contents)
    assert renamed.fingerprint() == prints[0], "a name is for tables"


NETWORKS = st.builds(
    NetworkSpec,
    input_shape=st.sampled_from([(1, 8, 8), (3, 16, 8)]),
    gaussian=st.integers(1, 5),
    categorical=st.lists(st.integers(2, 4), max_size=2).map(tuple),
)


@pytest.mark.slow
@settings(max_examples=8)
@given(NETWORKS, st.integers(0, 9), st.booleans(), st.sampled_from([(0.0, 1.0), (-1.0, 1.0)]))
def test_any_network_of_the_zoo_is_its_settings_and_weights(
    network: NetworkSpec, seed: int, clamp: bool, value_range: tuple[float, float]
) -> None:
    module = initialised(network, seed)
    model = wrap(module, clamp=True if value_range[0] < 0 else clamp, value_range=value_range)
    spec, contents = export_model(model)
    assert (spec["format"], spec["architecture"], list(contents)) == (
        *("safetensors", "ConvVAE"),
        [WEIGHTS],
    )
    loaded = load_portable(json.loads(json.dumps(spec)), contents)
    assert loaded.fingerprint() == model.fingerprint()
    x = probe_images(network.input_shape, 3)
    assert torch.equal(loaded.reconstruct(x), model.reconstruct(x))
    assert torch.equal(loaded.encode(x).vector(), model.encode(x).vector())


def test_weights_that_fit_half_precision_take_half_the_bytes(
    tiny_vae: genrobust.GenerativeModel,
) -> None:
    shipped = genrobust.load_model("vae")  # rounded to half precision when it was trained
    assert len(export_model(shipped)[1][WEIGHTS]) < 2.1 * shipped.parameters
    assert len(export_model(tiny_vae)[1][WEIGHTS]) > 4 * tiny_vae.parameters


@pytest.mark.slow
def test_a_zoo_network_with_other_functions_is_exported_as_a_graph() -> None:
    module = initialised(NetworkSpec(gaussian=2, input_shape=(1, 8, 8)), 0)
    with pytest.warns(GenrobustWarning, match="the module's forward gives other pictures"):
        model = wrap(module, decode=lambda code: module.decode(0.5 * code))
    spec, contents = export_model(model)
    assert spec["format"] == "exported"
    assert_same(load_portable(spec, contents), model)


class Toy(nn.Module):
    """8x8 images and 3 latents by linear maps."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.enc, self.dec = nn.Linear(64, 6), nn.Linear(3, 64)

    def encode(self, x: Tensor) -> Any:
        return self.enc(x.flatten(1)).chunk(2, 1)

    def decode(self, code: Tensor) -> Any:
        return self.dec(code).sigmoid()


LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "instance norm": F.instance_norm,
    "group norm": nn.GroupNorm(2, 4),
    "layer norm": nn.LayerNorm(8),
    "circular padding": nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    "upsampling": nn.Upsample(scale_factor=2, mode="bilinear"),
    "transposed convolution": nn.ConvTranspose2d(4, 2, 4, 2, 1),
    "max pooling": nn.MaxPool2d(2),
    "pixel shuffle": nn.PixelShuffle(2),
    "writing into a copy": lambda x: _with_a_hole(x),
    "minus infinity": lambda x: x.masked_fill(x.amin(1, True) == x, -torch.inf).softmax(1),
    "a constant": lambda x: x + torch.linspace(0, 1, 8),
    "a straight-through estimator": lambda x: x + (x.round() - x).detach(),
    "no_grad": lambda x: x / _norm_without_gradient(x),
    "a codebook": lambda x: _nearest(x, CODEBOOK),
}
CODEBOOK = torch.linspace(-1, 1, 20).view(5, 4)


def _with_a_hole(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0, 2:4] = 0
    return y


def _norm_without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@pytest.mark.parametrize("name", ["aten.elu.default", "aten.full_like.default"])
def test_an_operator_that_is_core_only_in_later_versions_is_read_by_all(name: str) -> None:
    assert name in _CORE_LATER  # torch 2.4 would refuse a bundle of torch 2.13 otherwise
    assert operation(name).name() == name.removesuffix(".default").replace("aten.", "aten::")


def test_a_single_result_of_no_grad_is_detached_and_nothing_else() -> None:
    trace(lambda x: [x * 1.0], nn.Identity(), torch.rand(2, 1), "encode")  # loads the operation
    graph = torch.fx.Graph()  # as torch 2.4 exports it: the region's users are not its items
    x, inside = graph.placeholder("x"), graph.get_attr("inside")
    wrapped = torch.ops.higher_order.wrap_with_set_grad_enabled
    region = graph.call_function(wrapped, (False, inside, x))
    quotient = graph.call_function(torch.ops.aten.div.Tensor, (x, region))
    graph.output(quotient)
    root = nn.Module()
    root.inside = nn.Identity()
    _stop_gradients(torch.fx.GraphModule(root, graph))
    first, second = quotient.args
    assert first is x
    assert isinstance(second, torch.fx.Node)
    assert (second.target, second.args) == (torch.ops.aten.detach.default, (region,))


def _nearest(x: Tensor, codebook: Tensor) -> Tensor:
    flat = x.movedim(1, -1)
    found = codebook[(flat[..., None, :] - codebook).square().sum(-1).argmin(-1)]
    return (flat + (found - flat).detach()).movedim(-1, 1)


@pytest.mark.parametrize(
    "kind", [k if k == "no_grad" else pytest.param(k, marks=pytest.mark.slow) for k in LAYERS]
)
def test_layers_and_tricks_keep_values_and_gradients(kind: str) -> None:
    function = LAYERS[kind]
    module = function if isinstance(function, nn.Module) else nn.Identity()
    module.eval().requires_grad_(False)
    x = torch.rand(6, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    traced = trace(lambda x: [function(x * 1.0)], module, x, "encode")
    runner = Runner(traced.graph, {n: t.to("meta") for n, t in traced.weights.items()})
    for size in (1, 2, 6):
        images = x[:size].clone().requires_grad_()
        ours, theirs = runner(images, traced.weights)[0], function(images * 1.0)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        slope = torch.linspace(-1, 1, theirs.numel()).view(theirs.shape)
        gradients = [torch.autograd.grad((out * slope).sum(), images)[0] for out in (ours, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


def _normal(toy: Toy, x: Tensor) -> Any:
    mean, logvar = toy.enc(x.flatten(1)).chunk(2, 1)
    return D.Normal(mean, logvar.exp())


OTHERS = nn.Linear(64, 4)

FORMS: dict[str, dict[str, Any]] = {
    "distributions": {
        "encode": lambda toy: lambda x: _normal(toy, x),
        "decode": lambda toy: lambda z: D.Bernoulli(logits=toy.dec(z)),
    },
    "one-hot": {
        "encode": lambda toy: lambda x: D.OneHotCategorical(logits=toy.enc(x.flatten(1))[:, :3])
    },
    "a module beside the module": {
        "encode": lambda toy: lambda x: OTHERS.requires_grad_(False)(x.flatten(1))[:, :3]
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_model_is_exported(form: str) -> None:
    toy = Toy()
    model = wrap(toy, **{side: make(toy) for side, make in FORMS[form].items()})
    assert_same(load_portable(*export_model(model)), model)


def test_exporting_leaves_torchs_settings_as_they_were(exported: Bundle) -> None:
    assert D.Distribution._validate_args is __debug__
    assert torch.is_grad_enabled()


Arguments = Callable[[Toy], dict[str, Callable[[Tensor], Any]]]

REFUSED: dict[str, tuple[Arguments, str]] = {
    "random": (
        lambda toy: {"decode": lambda z: toy.decode(F.dropout(z, 1e-9))},
        "decode draws random numbers in eval mode",
    ),
    "a number read off a tensor": (
        lambda toy: {"decode": lambda z: toy.decode(z) * (1 - 1e-9 * z.max().item())},
        "_local_scalar_dense",
    ),
    "an operation outside the rule": (
        lambda toy: {"decode": lambda z: toy.decode(torch.fft.irfft(torch.fft.rfft(z), 3))},
        "aten._fft_r2c",
    ),
    "a loop over the batch": (
        lambda toy: {"decode": lambda z: torch.cat([toy.decode(row[None]) for row in z])},
        "how many images are in the batch",
    ),
    "control flow by value": (
        lambda toy: {"decode": lambda z: toy.decode(z if z.sum() > -1e9 else -z)},
        "torch.export cannot follow the model's decode",
    ),
}


@pytest.mark.parametrize(
    "kind", [k if k == "random" else pytest.param(k, marks=pytest.mark.slow) for k in REFUSED]
)
def test_what_cannot_be_data_is_refused_in_a_sentence(kind: str) -> None:
    toy = Toy()
    arguments, reason = REFUSED[kind]
    model = wrap(toy, **arguments(toy))  # type: ignore[arg-type]
    with pytest.raises(GenrobustError, match=reason):
        export_model(model)


@pytest.mark.parametrize("how", [{"deploy": Toy().decode}, {"draws": 4}, {"differentiable": False}])
def test_a_model_with_a_deployed_path_of_its_own_is_external(how: dict[str, Any]) -> None:
    model = dataclasses.replace(wrap(Toy()), **how)
    with pytest.raises(GenrobustError, match="submit it as an external model"):
        export_model(model)


def test_a_part_of_ones_own_is_external() -> None:
    class Own(Point):
        pass

    toy = Toy()
    model = wrap(toy, encode=lambda x: Posterior((Own(toy.encode(x)[0]),)))
    with pytest.raises(GenrobustError, match="a Own, which cannot be exported"):
        export_model(model)


def call(op: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"op": op, "args": list(args), "kwargs": kwargs}


INPUT, BATCH, WEIGHT = {"input": 0}, {"batch": 1}, {"weight": "w"}


def node(index: int, **item: int) -> dict[str, int]:
    return {"node": index, **item}


def program(
    *, encode: list[Any] | None = None, decode: list[Any] | None = None, **changes: Any
) -> bytes:
    """A small autoencoder of 2x2 images, with some of its nodes put in place of its own.

    Nodes given for encode come before its last, which flattens what they compute.
    """
    before = [call("aten.mul.Tensor", INPUT, WEIGHT)] if encode is None else encode
    flat = call("aten.reshape.default", node(len(before) - 1), [BATCH, -1])
    after = [call("aten.sigmoid.default", INPUT)] if decode is None else decode
    image = call("aten.reshape.default", node(len(after) - 1), [BATCH, 1, 2, 2])
    whole = {
        "version": 1,
        "parts": ["point"],
        "encode": {"nodes": [*before, flat], "outputs": [node(len(before))]},
        "decode": {"nodes": [*after, image], "outputs": [node(len(after))]},
        "buffers": [],
    }
    return json.dumps({**whole, **changes}).encode()


SPEC = {"format": "exported", "name": "small", "input_shape": [1, 2, 2], "clamp": False}
ONE = save({"w": torch.ones(1)})


def small(graph: bytes | None = None, **spec: Any) -> genrobust.GenerativeModel:
    return load_portable({**SPEC, **spec}, {GRAPH: graph or program(), WEIGHTS: ONE})


def test_the_small_program_is_sound() -> None:
    x = torch.rand(3, 1, 2, 2)
    torch.testing.assert_close(small().reconstruct(x), x.sigmoid())
    assert small().parameters == 1
    assert small(program(buffers=["w"])).parameters == 0


FORBIDDEN = [
    *("aten.from_file.default", "aten.save.default", "aten.open.default", "aten.warn.default"),
    *("os.system", "builtins.exec", "torch.load", "posix.system.default", "subprocess.run.x"),
    *("aten.__class__.default", "aten._dir.default", "aten.relu.__init__", "aten.relu.op"),
    *("aten.relu", "aten.relu.default.default", "aten.relu.out", "aten.relu.defauIt", "", "."),
    *("_operator.getitem", "torch.ops.aten.relu.default", "aten::relu", "prim.Print.default"),
    *("aten.relu_.default", "aten.add_.Tensor", "aten.copy_.default", "aten.resize_.default"),
    *("aten.rand.default", "aten.randn_like.default", "aten.native_dropout.default"),
    *("aten.bernoulli.default", "aten.rrelu_with_noise_functional.default"),
    *("aten.empty.memory_format", "aten.empty_strided.default", "aten.as_strided.default"),
    *("aten._local_scalar_dense.default", "aten.item.default", "aten.nonzero.default"),
    *("aten.max_pool2d_with_indices_backward.default", "aten._embedding_bag.default"),
    *("aten._native_batch_norm_legit.default", "aten.set_.source_Storage", "aten.data.default"),
    *("aten.to_sparse.default", "aten.record_stream.default", "aten.pin_memory.default"),
    *("prims.device_put.default", "higher_order.cond.default", "genrobust.evil.default"),
]


@pytest.mark.parametrize("op", FORBIDDEN)
def test_an_operation_outside_the_rule_is_refused(op: str) -> None:
    graph = program(encode=[call("aten.mul.Tensor", INPUT, WEIGHT), call(op, node(0))])
    with pytest.raises(GenrobustError, match="which is not allowed") as refused:
        small(graph)
    assert str(refused.value).isprintable()


def test_the_rule_is_what_it_says() -> None:
    """Of all operators of torch, those allowed change nothing, draw nothing and open nothing."""
    allowed = []
    for schema in torch._C._jit_get_all_schemas():
        name = f"{schema.name.replace('::', '.')}.{schema.overload_name or 'default'}"
        try:
            allowed.append(operation(name)._schema)
        except GenrobustError:
            continue
    assert 150 < len(allowed) < 250
    for schema in allowed:
        assert not schema.is_mutable
        assert not any(a.alias_info and a.alias_info.is_write for a in schema.arguments)
        types = {str(argument.type).removeprefix("Optional[") for argument in schema.arguments}
        assert types.isdisjoint({"Generator", "Generator]", "Storage", "Stream", "Any", "t"})
        text = {a.name for a in schema.arguments if "str" in str(a.type)}
        assert text <= {"approximate", "reduce", "rounding_mode"}, "no file names"


X = call("aten.mul.Tensor", INPUT, WEIGHT)


def after(*nodes: Any) -> bytes:
    """The program whose encode goes on with these nodes after its first, which is node 0."""
    return program(encode=[X, *nodes])


HOSTILE_GRAPHS: dict[str, tuple[bytes, str]] = {
    "a pickle": (pickle.dumps([1]), "is a pickle"),
    "no JSON": (b"{", "is not a graph"),
    "cut short": (program()[:-20], "is not a graph"),
    "deep": (b"[" * 100_000, "is not a graph"),
    "a deep argument": (after(call("aten.relu.default", [[[INPUT]]])), "is not a graph"),
    "another version": (program(version=2), "is not a graph"),
    "a key more": (program(code="import os"), "code: there is no such key"),
    "an unknown part": (program(parts=["pickle"]), "parts.0"),
    "too few outputs": (program(parts=["gaussian"]), "gives 1 tensors from encode"),
    "no part": (program(parts=[]), "is not a graph"),
    "many nodes": (program(encode=[X] * 10_001), "at most 10000"),
    "a node of the future": (after(call("aten.relu.default", node(2))), "needs node 2, which"),
    "a node that needs itself": (after(call("aten.relu.default", node(1))), "needs node 1, which"),
    "a negative node": (after(call("aten.relu.default", node(-1))), "greater than"),
    "a weight that is not there": (
        after(call("aten.mul.Tensor", INPUT, {"weight": "../v"})),
        "there are no weights '../v'",
    ),
    "a weight nobody needs": (program(encode=[call("aten.relu.default", INPUT)]), "'w', which"),
    "an item of one tensor": (after(call("aten.relu.default", node(0, item=0))), "has no item 0"),
    "an item too far": (
        after(call("aten.max.dim", node(0), 2), call("aten.neg.default", node(1, item=2))),
        "has no item 2",
    ),
    "a list in place of a tensor": (
        after(
            call("aten.split_with_sizes.default", node(0), [1, 1], 2),
            call("aten.relu.default", node(1)),
        ),
        "fails at node 2",
    ),
    "too many arguments": (after(call("aten.relu.default", INPUT, 1, 2)), "does not know"),
    "an unknown argument": (after(call("aten.relu.default", INPUT, out=INPUT)), "does not know"),
    "text for a number": (after(call("aten.add.Tensor", node(0), "1")), "takes no text"),
    "a place for a tensor": (
        after(call("aten._to_copy.default", node(0), device="cuda:0")),
        "sets 'device'",
    ),
    "a file for an argument": (
        after(call("aten.gelu.default", node(0), approximate="/etc/passwd")),
        "fails at node 1",
    ),
    "dropout by attention": (
        after(call("aten.scaled_dot_product_attention.default", *[node(0)] * 3, None, 0.5)),
        "draws random numbers",
    ),
    "shapes that do not fit": (after(call("aten.mm.default", node(0), node(0))), "at node 1"),
    "a mask as an index": (
        after(call("aten.gt.Scalar", node(0), 0.5), call("aten.index.Tensor", node(0), [node(1)])),
        "fails at node 2",
    ),
    "an index out of range": (
        after(
            call("aten.full.default", [BATCH], 10**6, dtype={"dtype": "int64"}),
            call("aten.embedding.default", node(0), node(1)),
        ),
        "fails at node 2",
    ),
    "a huge number": (after(call("aten.add.Tensor", node(0), 10**400)), "fails at node 1"),
    "no gradient": (after(call("aten.detach.default", node(0))), "no gradient reaches"),
    "NaN": (after(call("aten.mul.Tensor", node(0), {"number": "nan"})), "NaN"),
    "an image of another size": (
        program(decode=[call("aten.repeat.default", INPUT, [2, 1])]),
        "is invalid for input of size",
    ),
    "pixels out of range": (
        program(decode=[call("aten.mul.Tensor", INPUT, 900)]),
        "where .0, 1. is allowed",
    ),
    "batches mixed": (
        after(call("aten.flip.default", node(0), [0])),
        "changes with the others in its batch",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE_GRAPHS)
def test_a_hostile_graph_is_refused_in_a_sentence(kind: str) -> None:
    graph, reason = HOSTILE_GRAPHS[kind]
    with pytest.raises(GenrobustError, match=reason) as refused:
        small(graph)
    assert len(str(refused.value)) < 700
    assert "\n" not in str(refused.value)


def doublings(count: int) -> list[Any]:
    return [X, *(call("aten.cat.default", [node(n), node(n)]) for n in range(count))]


def full(*size: Any) -> list[Any]:
    return [X, call("aten.full.default", list(size), 0.0), call("aten.neg.default", node(1))]


BOMBS: dict[str, list[Any]] = {
    "a large tensor": full(1 << 20, 1 << 20),
    "a tensor that grows with the batch": full({"batch": 1 << 40}),
    "a range": [X, call("aten.arange.start_step", 0, 10**12, 1)],
    "an expansion": [X, call("aten.expand.default", node(0), [1 << 40, -1, 1, 2, 2])],
    "a repetition": [X, call("aten.repeat.default", node(0), [1 << 20, 1 << 20, 1, 1])],
    "sixty doublings": doublings(60),
    "many tensors that are not large": [X, *full(1 << 28)[1:2] * 40],
    "an outer product": [
        *full(1 << 16, 1)[:2],
        call("aten.full.default", [1, 1 << 16], 0.0),
        call("aten.mm.default", node(1), node(2)),
    ],
    "scores inside an attention": [
        *full(1, 1, 1 << 17, 1)[:2],
        call("aten.scaled_dot_product_attention.default", *[node(1)] * 3),
    ],
    "padding": [X, call("aten.constant_pad_nd.default", node(0), [1 << 20, 1 << 20] * 2)],
    "upsampling": [X, call("aten.upsample_nearest2d.vec", node(0), [1 << 20, 1 << 20], None)],
    "work without memory": [
        *full(1 << 14, 1 << 14)[:2],
        *(call("aten.mm.default", node(n), node(n)) for n in range(1, 9)),
    ],
    "numbers of eight bytes": [
        X,
        call("aten.full.default", [1 << 29], 0.0, dtype={"dtype": "float64"}),
    ],
    "pooling with a large window": [
        *full(1, 1, 1 << 11, 1 << 11)[:2],
        call("aten.avg_pool2d.default", node(1), [1025, 1025], [1, 1]),
    ],
    "pooling with a window of one number": [
        *full(1, 1, 1 << 11, 1 << 11)[:2],
        call("aten.max_pool2d_with_indices.default", node(1), [1025], [1]),
    ],
    "adaptive pooling, many times": [
        *full(1, 1, 1 << 14, 1 << 14)[:2],
        *[call("aten._adaptive_avg_pool2d.default", node(1), [3, 3])] * 300,
    ],
    "a smooth resizing, many times": [
        *full(1, 1, 1 << 13, 1 << 13)[:2],
        *[call("aten._upsample_bilinear2d_aa.default", node(1), [3, 3], False)] * 100,
    ],
    "distances": [
        *full(1, 1 << 14, 1 << 9)[:2],
        call("aten._cdist_forward.default", node(1), node(1), 1.0, None),
    ],
    "sorting, many times": [
        *full(1 << 26)[:2],
        *[call("aten.sort.default", node(1))] * 50,
    ],
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_before_it_takes_memory_or_time(kind: str) -> None:
    with pytest.raises(GenrobustError, match=r"bytes|operations"):
        small(program(encode=BOMBS[kind]))


def test_limits_hold_for_each_new_batch_size() -> None:
    limits = PortableLimits(run=RunLimits(tensor=400))
    model = load_portable(SPEC, {GRAPH: program(), WEIGHTS: ONE}, limits)
    model.reconstruct(torch.rand(25, 1, 2, 2))
    with pytest.raises(GenrobustError, match="use smaller batches"):
        model.reconstruct(torch.rand(26, 1, 2, 2))


SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    st.sampled_from([INPUT, BATCH, WEIGHT, node(0), {}, [], [INPUT], {"dtype": "int64"}]),
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in some JSON with each of its keys."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@given(st.integers(0, len(list(places(json.loads(program())))) - 1), SCALARS)
def test_a_changed_graph_is_a_model_or_refused(which: int, value: Any) -> None:
    graph = json.loads(program())
    container, key = list(places(graph))[which]
    container[key] = value
    try:
        model = small(json.dumps(graph).encode())
    except GenrobustError:
        return
    assert model.reconstruct(torch.rand(2, 1, 2, 2)).shape == (2, 1, 2, 2)


def torch_saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class Evil:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("owned"),))


def test_pickles_in_place_of_any_file_are_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_vae: genrobust.GenerativeModel
) -> None:
    monkeypatch.chdir(tmp_path)
    spec, contents = export_model(tiny_vae)
    for evil in (pickle.dumps(Evil()), torch_saved(Evil())):
        for files in ({GRAPH: evil, WEIGHTS: ONE}, {GRAPH: program(), WEIGHTS: evil}):
            with pytest.raises(GenrobustError, match="is a pickle"):
                load_portable(SPEC, files)
        with pytest.raises(GenrobustError, match="is a pickle"):
            load_portable(spec, {**contents, WEIGHTS: evil})
    assert list(tmp_path.iterdir()) == []


WEIGHTS_SPEC = {
    **{"format": "safetensors", "name": "tiny", "architecture": "ConvVAE", "clamp": False},
    **{"settings": {"gaussian": 1, "input_shape": [1, 8, 8]}, "value_range": [0, 1]},
}
NETWORK = initialised(NetworkSpec(gaussian=1, input_shape=(1, 8, 8)), 0).state_dict()

HOSTILE_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "another format": ({"format": "pickle"}, "spec is not one that genrobust wrote"),
    "a key more": ({"code": "import os"}, "no such key"),
    "no name": ({"name": ""}, "name"),
    "a long name": ({"name": "x" * 200}, "name"),
    "a clamp of text": ({"clamp": "no"}, "clamp"),
    "too much": ({"settings": {"x": "y" * 70_000}}, "bytes, 65536 are allowed"),
    "no JSON": ({"settings": {"x": object()}}, "spec is not one"),
    "an unknown architecture": ({"architecture": "os.system"}, "unknown architecture 'os.system'"),
    "unknown settings": ({"settings": {"layers": 3}}, "settings are none of a ConvVAE"),
    "settings of nonsense": ({"settings": {"gaussian": -3}}, "settings are none of a ConvVAE"),
    "an odd size": ({"settings": {"input_shape": [1, 7, 7]}}, "must be 8 or more"),
    "a network beyond memory": ({"settings": {"gaussian": 10**12}}, "numbers, and 'weights"),
    "an image beyond memory": ({"settings": {"input_shape": [1, 8 * 10**9, 8]}}, "numbers, and"),
    "another network": (
        {"settings": {"gaussian": 0, "categorical": [1], "input_shape": [1, 8, 8]}},
        "where the model has",
    ),
    "a range backwards": ({"value_range": [1, 0]}, "value_range is"),
    "a range without end": ({"value_range": [0, float("inf")]}, "spec is not one|value_range is"),
    "a range of NaN": ({"value_range": [float("nan"), 1]}, "spec is not one|value_range is"),
}


@pytest.mark.parametrize("kind", HOSTILE_SPECS)
def test_a_hostile_spec_is_refused_in_a_sentence(kind: str) -> None:
    changes, reason = HOSTILE_SPECS[kind]
    with pytest.raises(GenrobustError, match=reason):
        load_portable({**WEIGHTS_SPEC, **changes}, {WEIGHTS: save(NETWORK)})


@pytest.mark.parametrize(
    "shape", [[1, 2], [0, 2, 2], [-1, 2, 2], [1, 10**9, 2], [True, 2, 2], "abc"]
)
def test_a_shape_that_is_none_is_refused(shape: Any) -> None:
    with pytest.raises(GenrobustError, match="input_shape"):
        small(input_shape=shape)


def changed(**tensors: Tensor | None) -> bytes:
    merged = {**NETWORK, **{name.replace("__", "."): t for name, t in tensors.items()}}
    return save({name: tensor for name, tensor in merged.items() if tensor is not None})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (changed(encoder__0__bias=torch.zeros(31)), "numbers, and|where the model has"),
        (changed(encoder__0__bias=torch.zeros(33)), "where the model has"),
        (changed(encoder__0__bias=None, more=torch.zeros(32)), "it lacks 'encoder.0.bias'"),
        (changed(more=torch.zeros(1)), "it has 'more' that the model lacks"),
        (changed(encoder__0__bias=torch.full((32,), torch.nan)), "NaN or infinite"),
        (changed()[:-4], "is not a whole safetensors file"),
        (b"", "is not a whole safetensors file"),
    ],
)
def test_weights_that_do_not_fit_are_refused(content: bytes, reason: str) -> None:
    load_portable(WEIGHTS_SPEC, {WEIGHTS: changed()})
    with pytest.raises(GenrobustError, match=reason):
        load_portable(WEIGHTS_SPEC, {WEIGHTS: content})


@pytest.mark.parametrize("names", [[], [GRAPH], [WEIGHTS], [GRAPH, WEIGHTS, "setup.py"]])
def test_a_bundle_has_the_files_that_belong_in_it_and_no_others(names: list[str]) -> None:
    with pytest.raises(GenrobustError, match="consists of"):
        load_portable(SPEC, {name: program() for name in names})


def test_files_are_limited() -> None:
    with pytest.raises(GenrobustError, match="bytes and 10 are allowed"):
        load_portable(SPEC, {GRAPH: program(), WEIGHTS: ONE}, PortableLimits(graph_bytes=10))
    limits = PortableLimits(tensors=TensorLimits(bytes=10))
    with pytest.raises(GenrobustError, match="bytes and 10 are allowed"):
        load_portable(SPEC, {GRAPH: program(), WEIGHTS: ONE}, limits)


def test_a_runner_frees_what_nobody_needs_and_keeps_what_comes_out() -> None:
    first = Node(op="aten.neg.default", args=(InputRef(input=0),))
    second = Node(op="aten.exp.default", args=(NodeRef(node=0),))
    run = Runner(Graph(nodes=(first, second), outputs=(NodeRef(node=0), NodeRef(node=1))), {})
    x = torch.rand(3)
    for found, expected in zip(run(x, {}), [-x, (-x).exp()], strict=True):
        torch.testing.assert_close(found, expected)
