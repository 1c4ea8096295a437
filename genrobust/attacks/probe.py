"""A classifier of latent vectors, trained on the spot."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrobust import files
from genrobust.seeding import generator, seed_of

BATCH_SIZE = 128
LEARNING_RATE = 1e-3

#: The last few probes by what they were trained on: a suite attacks in chunks, with one probe.
_TRAINED: OrderedDict[tuple[object, ...], nn.Module] = OrderedDict()
_KEPT = 4


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
    if key not in _TRAINED:
        _TRAINED[key] = _train(vectors, labels, epochs, hidden, seed)
        while len(_TRAINED) > _KEPT:
            _TRAINED.popitem(last=False)
    return _TRAINED[key]


def _train(vectors: Tensor, labels: Tensor, epochs: int, hidden: int, seed: int) -> nn.Module:
    labels = labels.to(vectors.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of("probe", seed))
        network = nn.Sequential(
            *(nn.Linear(vectors.shape[1], hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
            nn.Linear(hidden, int(labels.max()) + 1),
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
