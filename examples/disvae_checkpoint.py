"""The Burgess et al. 2018 network, written for disentangling-vae's state dicts.

genrobust bench --model examples/disvae_checkpoint.py:build --weights model.pt --suite mnist
genrobust bench --model examples/disvae_checkpoint.py:dsprites --weights model.pt --data sprites
genrobust bench --model examples/disvae_checkpoint.py:celeba --weights model.pt --data celeba
"""

from torch import nn


class Encoder(nn.Module):
    def __init__(self, latents, channels, size):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 32, 4, 2, 1), nn.Conv2d(32, 32, 4, 2, 1)
        self.conv3 = nn.Conv2d(32, 32, 4, 2, 1)
        self.conv_64 = nn.Conv2d(32, 32, 4, 2, 1) if size == 64 else nn.Identity()
        self.lin1, self.lin2 = nn.Linear(512, 256), nn.Linear(256, 256)
        self.mu_logvar_gen = nn.Linear(256, 2 * latents)

    def forward(self, x):
        for layer in (self.conv1, self.conv2, self.conv3, self.conv_64):
            x = layer(x).relu()
        hidden = self.lin2(self.lin1(x.flatten(1)).relu()).relu()
        return self.mu_logvar_gen(hidden).view(len(x), -1, 2).unbind(-1)  # mean, log-variance


class Decoder(nn.Module):
    def __init__(self, latents, channels, size):
        super().__init__()
        self.lin1, self.lin2, self.lin3 = (
            nn.Linear(a, b) for a, b in ((latents, 256), (256, 256), (256, 512))
        )
        self.convT_64 = nn.ConvTranspose2d(32, 32, 4, 2, 1) if size == 64 else nn.Identity()
        self.convT1, self.convT2, self.convT3 = (
            nn.ConvTranspose2d(32, c, 4, 2, 1) for c in (32, 32, channels)
        )

    def forward(self, z):
        hidden = self.lin3(self.lin2(self.lin1(z).relu()).relu()).relu().view(-1, 32, 4, 4)
        hidden = self.convT_64(hidden).relu()
        return self.convT3(self.convT2(self.convT1(hidden).relu()).relu()).sigmoid()


class VAE(nn.Module):
    def __init__(self, latents=10, channels=1, size=32):
        super().__init__()
        self.input_shape = (channels, size, size)
        self.encoder = Encoder(latents, channels, size)
        self.decoder = Decoder(latents, channels, size)


build = VAE


def dsprites():
    return VAE(size=64)


def celeba():
    return VAE(channels=3, size=64)
