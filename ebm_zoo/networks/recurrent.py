"""Predictors of the next frame of a sequence."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


class ConvGRUPredictor(nn.Module):
    """A convolutional gated recurrent unit at half the size runs over the frames; its last state changes the last one.

        e_t = act(W * x_t), stride 2;    z_t, r_t = σ(U * [e_t, h_{t−1}]);    n_t = tanh(V * [e_t, r_t h_{t−1}])
        h_t = (1 − z_t) h_{t−1} + z_t n_t,    h_0 = 0;    x̂_{T+1} = x_T + D *ᵀ h_T

    Learning starts at copying the last frame: D is zero then.

    Args:
        channels: colour channels of the frames.
        width: filters of the state.
        kernel: side of the filters within the unit, odd: how far things may move between two frames.

    Raises:
        ConfigError: if channels or width are below 1, the kernel is even, or a side of the frames is odd.

    References:
        Ballas, Yao, Pal, Courville. Delving Deeper into Convolutional Networks for Learning Video Representations.
        2015. https://arxiv.org/abs/1511.06432 (the unit).
    """

    def __init__(self, channels: int, width: int = 32, kernel: int = 5) -> None:
        super().__init__()
        if channels < 1 or width < 1 or kernel < 1 or kernel % 2 == 0:
            raise ConfigError(
                f"A predictor needs 1 or more channels and filters, and an odd kernel, not {channels, width, kernel}."
            )
        self.channels, self.width, self.kernel = channels, width, kernel
        self.encode = nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.SiLU())
        self.gates = nn.Conv2d(2 * width, 2 * width, kernel, 1, kernel // 2)
        self.candidate = nn.Conv2d(2 * width, width, kernel, 1, kernel // 2)
        self.decode = nn.ConvTranspose2d(width, channels, 4, 2, 1)
        for parameter in self.decode.parameters():
            nn.init.zeros_(parameter)
        self.to(memory_format=torch.channels_last)

    def forward(self, clip: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b c h w"]:
        """The frame after a clip, **(B, T, C, H, W) -> (B, C, H, W)**, T of 1 or more.

        Raises:
            ConfigError: if a side is odd.
        """
        if clip.shape[3] % 2 or clip.shape[4] % 2:
            raise ConfigError(f"Sides must be even, not {tuple(clip.shape[3:])}: resize first.")
        inputs = self.encode(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])
        state = torch.zeros_like(inputs[:, 0])
        for x in inputs.unbind(1):
            update, reset = self.gates(torch.cat([x, state], 1)).sigmoid().chunk(2, 1)
            candidate = self.candidate(torch.cat([x, reset * state], 1)).tanh()
            state = state + update * (candidate - state)
        return clip[:, -1].float() + self.decode(state).float()
