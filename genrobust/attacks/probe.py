"""A classifier of latent vectors, trained on the spot."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust import files
from genrobust.seeding import generator

BATCH_SIZE = 128
LEARNING_RATE = 1e-3

#: The last few probes by what they were trained on: a suite attacks in chunks, with one probe.
#: Threads share them; whoever comes second waits for the first one's training.
_TRAINED: OrderedDict[tuple[object, ...], nn.Module] = OrderedDict()
_KEPT = 4
_LOCK = threading.Lock()


def trained_probe(
    vectors: Tensor, labels: Tensor, *, epochs: int = 100, hidden: int = 512, seed: int = 0
) -> nn.Module:
    """The classifier of Kos, Fischer & Song 2018, in eval mode and frozen.

    Two hidden layers with batch normalisation and ReLU; Adam at 1e-3 in batches of 128.

    Args:
        vectors: latent vectors, (N, n).
        labels: their classes, (N,) int64.
        epochs: passes over them.
        hidden: units of each hidden layer.
        seed: of weights and batches.
    """
    data = files.sha256_of_tensors({"vectors": vectors, "labels": labels})
    key = (data, str(vectors.device), epochs, hidden, seed)
    with _LOCK:
        if key not in _TRAINED:
            _TRAINED[key] = _train(vectors, labels, epochs, hidden, seed)
            while len(_TRAINED) > _KEPT:
                _TRAINED.popitem(last=False)
        return _TRAINED[key]


def _train(vectors: Tensor, labels: Tensor, epochs: int, hidden: int, seed: int) -> nn.Module:
    labels = labels.to(vectors.device)
    source = generator("probe", seed)
    network = nn.Sequential(
        *(_linear(vectors.shape[1], hidden, source), nn.BatchNorm1d(hidden), nn.ReLU()),
        *(_linear(hidden, hidden, source), nn.BatchNorm1d(hidden), nn.ReLU()),
        _linear(hidden, int(labels.max()) + 1, source),
    )
    network.to(vectors).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    # A rest smaller than a batch is left out of that epoch: batch normalisation needs company.
    size = min(BATCH_SIZE, len(vectors))
    with torch.enable_grad():
        for epoch in range(epochs):
            order = torch.randperm(len(vectors), generator=generator("probe", seed, epoch))
            for ids in order[: len(order) // size * size].split(size):
                optimizer.zero_grad()
                F.cross_entropy(network(vectors[ids]), labels[ids]).backward()
                optimizer.step()
    return network.eval().requires_grad_(False)


def _linear(inputs: int, outputs: int, source: torch.Generator) -> nn.Linear:
    """A layer with the initial weights that torch gives it, from a generator of our own."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = 1 / math.sqrt(inputs)
    with torch.no_grad():
        nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=source)
        layer.bias.uniform_(-bound, bound, generator=source)
    return layer
