"""The JointVAE network of Dupont 2018, written for its published state dicts.

genrobust bench --model examples/jointvae_checkpoint.py:build --weights model.pt --suite mnist
genrobust bench --model examples/jointvae_checkpoint.py:dsprites --weights model.pt --data sprites
genrobust bench --model examples/jointvae_checkpoint.py:celeba --weights model.pt --data celeba
"""

from itertools import pairwise

import torch
from torch import nn


class JointVAE(nn.Module):
    def __init__(self, continuous=10, categories=10, channels=1, size=32):
        super().__init__()
        self.input_shape = (channels, size, size)
        widths = [channels, 32, 64, 64] if size == 32 else [channels, 32, 32, 64, 64]
        down = pairwise(widths)
        layers = [m for a, b in down for m in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
        self.img_to_features = nn.Sequential(*layers)
        self.features_to_hidden = nn.Sequential(nn.Linear(1024, 256), nn.ReLU())
        self.fc_mean = nn.Linear(256, continuous)
        self.fc_log_var = nn.Linear(256, continuous)
        self.fc_alphas = nn.ModuleList([nn.Linear(256, categories)])
        widths = [64, 32, 32, channels] if size == 32 else [64, 64, 32, 32, channels]
        up = pairwise(widths)
        layers = [m for a, b in up for m in (nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU())]
        self.latent_to_features = nn.Sequential(
            *(nn.Linear(continuous + categories, 256), nn.ReLU(), nn.Linear(256, 1024), nn.ReLU())
        )
        self.features_to_img = nn.Sequential(*layers[:-1], nn.Sigmoid())

    def encode(self, x):
        hidden = self.features_to_hidden(self.img_to_features(x).flatten(1))
        probabilities = [torch.softmax(head(hidden), 1) for head in self.fc_alphas]
        return {"cont": [self.fc_mean(hidden), self.fc_log_var(hidden)], "disc": probabilities}

    def decode(self, code):
        return self.features_to_img(self.latent_to_features(code).view(-1, 64, 4, 4))


build = JointVAE


def dsprites():
    return JointVAE(continuous=6, categories=3, size=64)


def celeba():
    return JointVAE(continuous=32, categories=10, channels=3, size=64)
