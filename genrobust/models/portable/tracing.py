"""From a model's functions to graphs as data, by ``torch.export``.

A function is exported at two batch sizes. What differs between the two must be sizes that grow
with the batch, so that no code has to be written for symbolic sizes.
"""

from __future__ import annotations

import io
import logging
import math
import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import core_aten_decompositions
from torch._ops import OpOverload
from torch.distributions import Distribution
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind

from genrobust.errors import GenrobustError, telling
from genrobust.models.portable.graph import (
    PLACEMENT,
    WHOLE,
    Argument,
    BatchSize,
    Dtype,
    Graph,
    InputRef,
    MemoryFormat,
    Node,
    NodeRef,
    Ref,
    Special,
    WeightRef,
    operation,
)

#: The two batch sizes.
SIZES = (3, 5)


@dataclass(frozen=True, eq=False)
class Traced:
    """A function as data.

    Args:
        graph: its operations.
        weights: the tensors that it uses, by the names that the module's state dict has for them.
        buffers: the names of those that are not learned.
    """

    graph: Graph
    weights: dict[str, Tensor]
    buffers: frozenset[str]


def trace(
    function: Callable[[Tensor], Sequence[Tensor]], module: nn.Module, x: Tensor, name: str
) -> Traced:
    """Export a function of a batch.

    Args:
        function: a batch to tensors, in which every sample is treated by itself.
        module: holds the weights that the function uses.
        x: ``max(SIZES)`` samples to trace it with.
        name: what the function does (``encode``), for errors and for its constants.

    Raises:
        GenrobustError: ``torch.export`` cannot follow it, it changes what it is given, or the
            batch size decides what it does.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> found = trace(lambda x: [layer(x)], layer, torch.zeros(5, 2), "encode")
        >>> [node.op for node in found.graph.nodes], sorted(found.weights)
        (['aten.linear.default'], ['bias', 'weight'])
    """
    small, large = (_lowered(function, module, x[:size], name) for size in SIZES)
    graph = _generalised(small.graph, large.graph, name)
    same = small.weights.keys() == large.weights.keys() and all(
        torch.equal(small.weights[key], large.weights[key]) for key in small.weights
    )
    if not same:
        raise _depends_on_batch(name)
    return replace(small, graph=graph)


class _Function(nn.Module):
    """The function as a module, which is what ``torch.export`` takes."""

    def __init__(self, function: Callable[[Tensor], Sequence[Tensor]], module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.function(x))


def _lowered(
    function: Callable[[Tensor], Sequence[Tensor]], module: nn.Module, x: Tensor, name: str
) -> Traced:
    try:
        with _quiet():
            program = torch.export.export(_Function(function, module), (x,), strict=False)
            _stop_gradients(program.graph_module)
            table = _decompositions()
            for kept in WHOLE:
                table.pop(operation(kept), None)
            program = program.run_decompositions(table)
    except GenrobustError:
        raise
    except Exception as problem:  # user code under a tracer can raise anything
        raise GenrobustError(
            f"torch.export cannot follow the model's {name} ({type(problem).__name__}: "
            f"{telling(str(problem))[:300]}); write it with torch operations on tensors "
            "alone, or submit the model as an external model"
        ) from problem
    return _Lowering(program, name).traced()


def _decompositions() -> Any:
    """torch's table of what operations are made of; torch 2.4 has it under another name."""
    known = getattr(torch.export, "default_decompositions", None)
    return known() if known else core_aten_decompositions()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says, which is a graph for each branch it cannot follow, and
    without distributions' checks of values, which a traced tensor has none of."""
    checks = Distribution._validate_args
    disabled = logging.root.manager.disable
    Distribution.set_default_validate_args(False)
    logging.disable(logging.CRITICAL)
    try:
        said = io.StringIO()
        with (
            warnings.catch_warnings(),
            redirect_stdout(said),
            redirect_stderr(said),
            torch.enable_grad(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        Distribution.set_default_validate_args(checks)


def _stop_gradients(graph_module: fx.GraphModule) -> None:
    """Detach what comes out of ``torch.no_grad``: the decomposition drops the grad mode."""
    graph = graph_module.graph
    for region in graph.find_nodes(
        op="call_function", target=torch.ops.higher_order.wrap_with_set_grad_enabled
    ):
        if region.args[0]:
            continue
        taken = [user for user in region.users if user.target is operator.getitem]
        for result in taken or [region]:  # torch 2.4 gives a single result as it is
            with graph.inserting_after(result):
                stop = graph.call_function(torch.ops.aten.detach.default, (result,))
            stop.meta = dict(result.meta)
            result.replace_all_uses_with(stop, lambda user, stop=stop: user is not stop)
    graph_module.recompile()


class _Lowering:
    """Turns an exported program into a :class:`Graph`: only what its outputs need."""

    def __init__(self, program: ExportedProgram, name: str) -> None:
        self._program, self._name = program, name
        self._nodes: list[Node] = []
        self._values: dict[fx.Node, Any] = {}
        self._weights: dict[str, Tensor] = {}
        self._buffers: set[str] = set()

    def traced(self) -> Traced:
        """Walk through the program once."""
        signature = self._program.graph_signature
        if any(spec.kind != OutputKind.USER_OUTPUT for spec in signature.output_specs):
            raise GenrobustError(
                f"the model's {self._name} changes its input or its own buffers in place; make "
                "it leave both as they are"
            )
        graph = self._program.graph
        needed = _needed(graph)
        inputs = {spec.arg.name: spec for spec in signature.input_specs}
        for node in graph.nodes:
            if node in needed and node.op == "placeholder":
                self._values[node] = self._input(inputs[node.name])
            elif node in needed and node.op == "call_function":
                self._values[node] = self._call(node)
            elif node in needed and node.op != "output":
                raise self._refused(node)
        returned: Any = _output(graph).args[0]
        outputs = tuple(self._value(node) for node in returned)
        return Traced(
            Graph(nodes=tuple(self._nodes), outputs=outputs),
            self._weights,
            frozenset(self._buffers),
        )

    def _input(self, spec: InputSpec) -> Ref:
        if spec.kind == InputKind.USER_INPUT:
            return InputRef(input=0)
        target = spec.target or ""
        kept = {**self._program.constants, **self._program.state_dict}
        tensor = kept.get(target)
        if not isinstance(tensor, Tensor):
            raise GenrobustError(
                f"the model's {self._name} uses an object that is no tensor ({target}); submit "
                "the model as an external model"
            )
        name = target.removeprefix("module.")
        if spec.kind == InputKind.CONSTANT_TENSOR:
            name = f"constant.{self._name}.{len(self._weights)}"
        self._weights[name] = tensor.detach().cpu().contiguous()
        if spec.kind != InputKind.PARAMETER:
            self._buffers.add(name)
        return WeightRef(weight=name)

    def _call(self, node: fx.Node) -> Ref:
        target, aten = node.target, torch.ops.aten
        if target is operator.getitem:
            whole, item = self._value(node.args[0]), node.args[1]
            assert isinstance(whole, NodeRef)
            assert isinstance(item, int)
            return NodeRef(node=whole.node, item=item)
        if target is aten.copy.default:  # has no derivative
            source, like = self._value(node.args[1]), node.meta["val"]
            grown = self._append("aten.expand.default", (source, tuple(like.shape)))
            kind = {"dtype": self._value(like.dtype)}
            return self._append("aten._to_copy.default", (grown,), kind)
        if target is aten.empty.memory_format:  # is about to be overwritten
            kind = {"dtype": self._value(node.meta["val"].dtype)}
            return self._append("aten.full.default", (self._value(node.args[0]), 0), kind)
        if not isinstance(target, OpOverload) or target.namespace != "aten":
            raise self._refused(node)
        random = torch.Tag.nondeterministic_seeded in target.tags
        if random and str(target) not in WHOLE:
            raise GenrobustError(
                f"the model's {self._name} draws random numbers in eval mode ({target}); return "
                "the posterior's parameters and decode codes without noise, or submit it as an "
                "external model"
            )
        args = tuple(map(self._value, node.args))
        kwargs = {k: self._value(v) for k, v in node.kwargs.items() if k not in PLACEMENT}
        # How a tensor lies in memory can differ between the trace and a run on another machine.
        name = "aten.reshape.default" if target is aten.view.default else str(target)
        return self._append(name, args, kwargs)

    def _append(
        self, op: str, args: tuple[Argument, ...], kwargs: dict[str, Argument] | None = None
    ) -> NodeRef:
        operation(op)
        self._nodes.append(Node(op=op, args=args, kwargs=kwargs or {}))
        return NodeRef(node=len(self._nodes) - 1)

    def _value(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            return self._values[value]
        if isinstance(value, (list, tuple)):
            return tuple(map(self._value, value))
        if isinstance(value, torch.dtype):
            return Dtype.model_validate({"dtype": str(value).removeprefix("torch.")})
        if isinstance(value, torch.memory_format):
            return MemoryFormat.model_validate({"memory_format": str(value).removeprefix("torch.")})
        if isinstance(value, float) and not math.isfinite(value):
            return Special.model_validate({"number": str(value)})
        return value

    def _refused(self, node: fx.Node) -> GenrobustError:
        return GenrobustError(
            f"the model's {self._name} uses {str(node.target)[:80]!a}, which is no torch "
            "operation on tensors; replace it, or submit the model as an external model"
        )


def _output(graph: fx.Graph) -> fx.Node:
    """The node of what is returned; torch 2.4 has no method that finds it."""
    return next(node for node in reversed(graph.nodes) if node.op == "output")


def _needed(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the outputs depend on: checks and leftovers are not among them."""
    needed: set[fx.Node] = set()
    waiting = [_output(graph)]
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return needed


def _generalised(small: Graph, large: Graph, name: str) -> Graph:
    """The one graph that both are examples of."""
    if small.outputs != large.outputs or len(small.nodes) != len(large.nodes):
        raise _depends_on_batch(name)
    nodes = []
    for a, b in zip(small.nodes, large.nodes, strict=True):
        if a.op != b.op or len(a.args) != len(b.args) or a.kwargs.keys() != b.kwargs.keys():
            raise _depends_on_batch(name)
        args = tuple(_merged(v, w, name) for v, w in zip(a.args, b.args, strict=True))
        kwargs = {key: _merged(value, b.kwargs[key], name) for key, value in a.kwargs.items()}
        nodes.append(Node(op=a.op, args=args, kwargs=kwargs))
    return Graph(nodes=tuple(nodes), outputs=small.outputs)


def _merged(small: Any, large: Any, name: str) -> Any:
    if isinstance(small, tuple) and isinstance(large, tuple) and len(small) == len(large):
        return tuple(_merged(a, b, name) for a, b in zip(small, large, strict=True))
    if type(small) is type(large) and small == large:
        return small
    if type(small) is int and type(large) is int:
        batch, rest = divmod(large - small, SIZES[1] - SIZES[0])
        if rest == 0:
            return BatchSize(batch=batch, plus=small - batch * SIZES[0])
    raise _depends_on_batch(name)


def _depends_on_batch(name: str) -> GenrobustError:
    return GenrobustError(
        f"what the model's {name} does depends on how many images are in the batch; treat each "
        "image by itself, or submit the model as an external model"
    )
