"""A model's computation as data: a list of tensor operations, and what runs it.

torch's own files for exported graphs cannot be read without trust: ``torch.export.load`` unpickles
(``weights_only=False``), evaluates size expressions as Python (sympy) and loads the compiled
libraries that it finds. Here a graph is plain JSON, and an operation is allowed by rule: it is one
of torch's documented core ATen operators, computes tensors from tensors alone, changes none in
place, draws no random number, and gives a size that depends on sizes only (:func:`operation`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from genrobust.errors import GenrobustError, telling


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NodeRef(_Data):
    """What an earlier node computed; ``item`` where that is several tensors."""

    node: Annotated[StrictInt, Field(ge=0)]
    item: Annotated[StrictInt, Field(ge=0)] | None = None


class WeightRef(_Data):
    """A tensor of the weights file."""

    weight: StrictStr


class InputRef(_Data):
    """What the graph is applied to: images, or codes."""

    input: Literal[0]


class BatchSize(_Data):
    """A size that grows with the batch: ``batch`` times its length, plus ``plus``."""

    batch: StrictInt
    plus: StrictInt = 0


class Dtype(_Data):
    """A number type, by torch's name."""

    dtype: Literal[
        "bool",
        "uint8",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
    ]


class MemoryFormat(_Data):
    """A memory format, by torch's name."""

    memory_format: Literal[
        "contiguous_format", "preserve_format", "channels_last", "channels_last_3d"
    ]


class Special(_Data):
    """A number that JSON has no word for."""

    number: Literal["inf", "-inf", "nan"]


Ref = NodeRef | WeightRef | InputRef
Item = (
    Ref
    | BatchSize
    | Dtype
    | MemoryFormat
    | Special
    | StrictBool
    | StrictInt
    | StrictFloat
    | StrictStr
    | None
)
Argument = Item | tuple[Item, ...]


class Node(_Data):
    """One operation, such as ``aten.relu.default``, and what it is applied to."""

    op: Annotated[StrictStr, Field(max_length=80)]
    args: Annotated[tuple[Argument, ...], Field(max_length=32)] = ()
    kwargs: Annotated[dict[str, Argument], Field(max_length=32)] = {}


class Graph(_Data):
    """Operations in the order they run, and which of their results come out."""

    nodes: Annotated[tuple[Node, ...], Field(max_length=10_000)]
    outputs: Annotated[tuple[Ref, ...], Field(min_length=1, max_length=1_000)]

    @property
    def weights(self) -> set[str]:
        """The names of the weights that it uses."""
        used = [ref for _, ref in _refs(self)] + list(self.outputs)
        return {ref.weight for ref in used if isinstance(ref, WeightRef)}


@dataclass(frozen=True)
class RunLimits:
    """How much one application of a graph to a batch may compute.

    Args:
        tensor: bytes of one tensor.
        total: bytes of all tensors of the run together.
        operations: floating point operations of its matrix products and convolutions, and those
            that take as long as what else it does (:func:`_work`).
    """

    tensor: int = 2 << 30
    total: int = 32 << 30
    operations: int = 2 * 10**12


#: A step that is no multiply-add of a matrix product takes as long as so many of these.
SLOWER = 32


#: Core operators whose names begin with an underscore are torch's kernels beneath a public
#: function, which may rely on checks made above them. These few are safe by themselves.
_PRIVATE = {
    "aten._softmax.default",
    "aten._log_softmax.default",
    "aten._to_copy.default",
    "aten._adaptive_avg_pool2d.default",
    "aten._adaptive_avg_pool3d.default",
    "aten._native_batch_norm_legit_no_training.default",
    "aten._native_batch_norm_legit.no_stats",
    "aten._cdist_forward.default",
    "aten._upsample_bilinear2d_aa.default",
    "aten._upsample_bicubic2d_aa.default",
}

#: Core ones that torch 2.4 has and does not call so: a bundle is read alike by all versions.
_CORE_LATER = ("aten.elu.default", "aten.full_like.default")

#: Operators that follow the rule but are not core: torch's decomposition to core ones loses a
#: gradient's stop, rounds otherwise, is slower, or depends on how a tensor lies in memory; or has
#: none.
WHOLE = (
    "aten.detach.default",
    "aten.reshape.default",
    "aten.linear.default",
    "aten.group_norm.default",
    "aten.scaled_dot_product_attention.default",
    "aten.silu.default",
    "aten.mish.default",
    "aten.softplus.default",
    "aten.log_sigmoid.default",
    "aten.hardswish.default",
    "aten.hardsigmoid.default",
    "aten.max.default",
    "aten.min.default",
    "aten.linalg_vector_norm.default",
    "aten.adaptive_max_pool2d.default",
    "aten.upsample_bicubic2d.vec",
    "aten._upsample_bilinear2d_aa.default",
    "aten._upsample_bicubic2d_aa.default",
)

#: Their results hold what memory held before, read memory by raw strides, or trust indices that a
#: forward pass made.
_RAW_MEMORY = re.compile(r"aten\.(empty.*|as_strided|masked_scatter|\w+_backward)\.\w+")

_NAME = re.compile(r"aten\.[a-z_][a-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*")

#: Where a tensor lies is this machine's affair.
PLACEMENT = {"device", "layout", "pin_memory", "generator"}


@cache
def operation(name: str) -> OpOverload:
    """The operator of that name, if it is allowed.

    Raises:
        GenrobustError: there is none, or it is not allowed.

    Example:
        >>> operation("aten.relu.default")(torch.tensor([-1.0, 1.0]))
        tensor([0., 1.])
        >>> operation("aten.from_file.default")
        Traceback (most recent call last):
        genrobust.errors.GenrobustError: the graph uses the operation 'aten.from_file.default', ...
    """
    found = _lookup(name) if _NAME.fullmatch(name) else None
    if found is None or not _is_allowed(name, found):
        raise GenrobustError(
            f"the graph uses the operation {name[:80]!a}, which is not allowed (allowed are "
            "torch's core ATen operators that are functional and deterministic); replace it in "
            "encode and decode, or submit the model as an external model"
        )
    return found


def _lookup(name: str) -> OpOverload | None:
    _, packet, overload = name.split(".")
    found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
    return found if isinstance(found, OpOverload) else None


def _is_allowed(name: str, op: OpOverload) -> bool:
    """The rule; the module's docstring has it in words."""
    tags = set(op.tags)
    # Attention is random where it has dropout, which `_check_node` refuses.
    tags -= {torch.Tag.nondeterministic_seeded} if "dropout_p" in _types(op) else set()
    private = op.name().removeprefix("aten::").startswith("_")
    return (
        (torch.Tag.core in tags or name in WHOLE or name in _CORE_LATER)
        and (not private or name in _PRIVATE)
        and not _RAW_MEMORY.fullmatch(name)
        and not op._schema.is_mutable
        and not tags & {torch.Tag.nondeterministic_seeded, torch.Tag.data_dependent_output}
        # Indexing by a mask has such a size, and fails when sizes are worked out before a run.
        and (torch.Tag.dynamic_output_shape not in tags or name == "aten.index.Tensor")
        and all(str(result.type) in ("Tensor", "List[Tensor]") for result in op._schema.returns)
    )


class Runner:
    """Applies a graph to batches; a batch of a new shape is first run without any memory.

    Args:
        graph: the operations.
        weights: tensors on torch's meta device, with the shapes and types of the real ones.
        limits: how much a run may compute.

    Raises:
        GenrobustError: an operation is not allowed, or a reference leads nowhere.

    Example:
        >>> double = Node(op="aten.add.Tensor", args=(InputRef(input=0), InputRef(input=0)))
        >>> run = Runner(Graph(nodes=(double,), outputs=(NodeRef(node=0),)), {})
        >>> run(torch.ones(2), {})
        [tensor([2., 2.])]
    """

    def __init__(
        self, graph: Graph, weights: Mapping[str, Tensor], limits: RunLimits | None = None
    ) -> None:
        self._weights = weights
        self._limits = limits or RunLimits()
        for index, node in enumerate(graph.nodes):
            _check_node(index, node, weights)
        for ref in graph.outputs:
            _check_ref(len(graph.nodes), ref, weights, "an output")
        frees = _last_uses(graph)
        self._steps = [
            _Step(
                place=f"node {index} ({node.op})",
                op=operation(node.op),
                args=tuple(map(_constant, node.args)),
                kwargs={name: _constant(value) for name, value in node.kwargs.items()},
                makes_tensors=_makes_tensors(operation(node.op)),
                frees=tuple(frees.get(index, ())),
            )
            for index, node in enumerate(graph.nodes)
        ]
        self._outputs = graph.outputs
        self._measured: set[tuple[torch.Size, torch.dtype]] = set()

    def __call__(self, x: Tensor, weights: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs for a batch ``x``, with gradients.

        Raises:
            GenrobustError: an operation fails, or the limits would be passed.
        """
        shape = (x.shape, x.dtype)
        if shape not in self._measured:
            self._measure(x)
            self._measured.add(shape)
        return self._run(x, weights, None)

    def _measure(self, x: Tensor) -> None:
        shape = torch.empty(x.shape, dtype=x.dtype, device="meta")
        with torch.no_grad(), _Meter(self._limits, len(x)) as meter:
            self._run(shape, self._weights, meter)

    def _run(self, x: Tensor, weights: Mapping[str, Tensor], meter: _Meter | None) -> list[Tensor]:
        results: list[Any] = [None] * len(self._steps)
        for index, step in enumerate(self._steps):
            if meter is not None:
                meter.place = step.place
            try:
                args = [_resolve(value, results, x, weights) for value in step.args]
                kwargs = {n: _resolve(v, results, x, weights) for n, v in step.kwargs.items()}
                if step.makes_tensors:
                    kwargs["device"] = x.device
                results[index] = step.op(*args, **kwargs)
            except GenrobustError:
                raise
            except Exception as problem:  # hostile arguments can make torch raise anything
                raise _failed(step.place, problem) from problem
            for node in step.frees:
                results[node] = None
        outputs = [_resolve(ref, results, x, weights) for ref in self._outputs]
        if not all(isinstance(output, Tensor) for output in outputs):
            raise _failed("an output", TypeError("it is no tensor"))
        return outputs


@dataclass(frozen=True, eq=False)
class _Step:
    """A node made ready: what is constant in it is already torch's."""

    place: str
    op: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    makes_tensors: bool
    frees: tuple[int, ...]


class _Meter(TorchDispatchMode):
    """Adds up what a graph computes while it runs without memory, inside its operations too."""

    def __init__(self, limits: RunLimits, batch: int) -> None:
        super().__init__()
        self.place = ""
        self._limits, self._batch = limits, batch
        self._total, self._operations = 0, 0

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [t.numel() * t.element_size() for t in _tensors(result)]
        self._total += sum(sizes)
        self._operations += _work(func, args, kwargs or {}, result)
        for found, allowed, what in (
            (max(sizes, default=0), self._limits.tensor, "bytes in one tensor"),
            (self._total, self._limits.total, "bytes in all"),
            (self._operations, self._limits.operations, "operations"),
        ):
            if found > allowed:
                raise GenrobustError(
                    f"the model's graph computes {found:.2g} {what} for a batch of {self._batch} "
                    f"at {self.place}, and {allowed:.2g} are allowed; use smaller batches, or a "
                    "smaller model"
                )
        return result


def _work(func: OpOverload, args: Any, kwargs: Any, result: Any) -> int:
    """Operations of a matrix product that take as long as this one, from above.

    Most go once over what they read and write. Those that read a number several times are a
    window's (pooling, smooth resizing), a pair's (distances) or a comparison's (sorting).
    """
    count = flop_registry.get(func.overloadpacket)
    if count:
        return int(count(*args, **kwargs, out_val=result))
    given = dict(zip(_types(func), args, strict=False)) | kwargs
    read, written = (sum(t.numel() for t in _tensors(one)) for one in (given, result))
    name = func._schema.name.removeprefix("aten::")
    steps = read + written
    if "pool" in name or name.endswith("_aa"):
        steps = written * _window(name, given, _tensors(result)[0])
    elif "cdist" in name:
        steps = written * int(given["x1"].shape[-1])
    elif name in ("sort", "topk"):
        steps = read * max(1, read.bit_length())
    return SLOWER * steps


def _window(name: str, given: Mapping[str, Any], result: Tensor) -> int:
    """How many numbers each result of a pooling or of a smooth resizing is made of."""
    image = _tensors(given)[0]
    axes = 3 if "3d" in name else 2
    if "kernel_size" in given:
        sides = [int(side) for side in given["kernel_size"]]
        return math.prod(sides) ** (axes if len(sides) == 1 else 1)
    # Adaptive windows overlap by one at most; a cubic kernel reaches over four of the coarser grid.
    reach = 4 if name.endswith("_aa") else 1
    pairs = zip(image.shape[-axes:], result.shape[-axes:], strict=True)
    return math.prod(reach * -(-before // max(1, after)) + 1 for before, after in pairs)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _check_node(index: int, node: Node, weights: Mapping[str, Tensor]) -> None:
    place = f"node {index} ({node.op})"
    types = _types(operation(node.op))
    if len(node.args) > len(types) or not node.kwargs.keys() <= types.keys():
        raise _failed(place, TypeError("it has arguments that the operation does not know"))
    for name, value in [*zip(types, node.args, strict=False), *node.kwargs.items()]:
        if name == "dropout_p" and value != 0:
            raise _failed(place, TypeError("dropout draws random numbers"))
        if name in PLACEMENT:
            raise _failed(place, TypeError(f"it sets '{name}', which is not for a graph to say"))
        for item in _items(value):
            if isinstance(item, str) and types[name] not in ("str", "Optional[str]"):
                raise _failed(place, TypeError(f"'{name}' takes no text"))
            if isinstance(item, Ref):
                _check_ref(index, item, weights, place)


def _check_ref(index: int, ref: Ref, weights: Mapping[str, Tensor], place: str) -> None:
    if isinstance(ref, NodeRef) and ref.node >= index:
        raise _failed(place, ValueError(f"it needs node {ref.node}, which comes later or never"))
    if isinstance(ref, WeightRef) and ref.weight not in weights:
        raise _failed(place, ValueError(f"there are no weights {ref.weight[:80]!a}"))


def _makes_tensors(op: OpOverload) -> bool:
    """Whether it makes a tensor from none, and so must be told where."""
    types = _types(op)
    return "device" in types and "Tensor" not in types.values()


def _types(op: OpOverload) -> dict[str, str]:
    """Its arguments in their order, and what each takes."""
    return {argument.name: str(argument.type) for argument in op._schema.arguments}


def _last_uses(graph: Graph) -> dict[int, list[int]]:
    """For each node, which results nobody needs after it."""
    last = {ref.node: index for index, ref in _refs(graph) if isinstance(ref, NodeRef)}
    kept = {ref.node for ref in graph.outputs if isinstance(ref, NodeRef)}
    found: dict[int, list[int]] = {}
    for node in last.keys() - kept:
        found.setdefault(last[node], []).append(node)
    return found


def _refs(graph: Graph) -> Iterator[tuple[int, Ref]]:
    """What each node refers to, with the node's place."""
    for index, node in enumerate(graph.nodes):
        for argument in (*node.args, *node.kwargs.values()):
            for item in _items(argument):
                if isinstance(item, Ref):
                    yield index, item


def _items(argument: Argument) -> tuple[Item, ...]:
    return argument if isinstance(argument, tuple) else (argument,)


def _constant(argument: Argument) -> Any:
    """torch's own object for what does not change from run to run."""
    if isinstance(argument, tuple):
        return [_constant(item) for item in argument]
    if isinstance(argument, Dtype):
        return getattr(torch, argument.dtype)
    if isinstance(argument, MemoryFormat):
        return getattr(torch, argument.memory_format)
    return float(argument.number) if isinstance(argument, Special) else argument


def _resolve(value: Any, results: list[Any], x: Tensor, weights: Mapping[str, Tensor]) -> Any:
    kind = type(value)
    if kind is NodeRef:
        found = results[value.node]
        if value.item is None:
            return found
        if not isinstance(found, (tuple, list)) or value.item >= len(found):
            raise ValueError(f"node {value.node} has no item {value.item}")
        return found[value.item]
    if kind is WeightRef:
        return weights[value.weight]
    if kind is InputRef:
        return x
    if kind is BatchSize:
        return value.batch * len(x) + value.plus
    if kind is list:
        return [_resolve(item, results, x, weights) for item in value]
    return value


def _failed(place: str, problem: Exception) -> GenrobustError:
    reason = telling(str(problem)) or type(problem).__name__
    return GenrobustError(
        f"the model's graph fails at {place}: {reason[:300]}; export the model again with genrobust"
    )
