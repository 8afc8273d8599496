"""Alternating back-propagation: a generator learned by inferring the latent vectors of its data."""

import torch
from torch import Tensor, nn

from ebm_zoo.errors import DataError
from ebm_zoo.models.latent_variable import LatentVariableModel
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Hook, Langevin, WarmStart
from ebm_zoo.space import Space, TokenSpace


class AlternatingBackProp(LatentVariableModel):
    """A generator and N(0, I): back-propagation to z infers, back-propagation to the weights learns.

        z_i ← Langevin on ‖z‖²/2 − log p(x_i | z) from the z_i of before;    ∇_g = mean ∇(−log p(x_i | z_i))

    It learns from incomplete data as they are: what is unknown enters neither of the two. It is `LatentEBM` without a
    learned prior; without ``chains`` inference is a short run, as there.

    Args:
        generator: output model p(x | z), see `LatentVariableModel`.
        space: shape and range of the data, or the tokens they are made of.
        posterior_langevin: Langevin dynamics of an inference in learning.
        optim: Adam settings for ``generator``.
        infer_steps: steps of an inference in the tasks, which begins at N(0, I); 0 = as in learning.
        chains: memory of the z_i, which needs data that tell their index; without, all runs begin at N(0, I).

    References:
        Han, Lu, Zhu, Wu. Alternating Back-Propagation for Generator Network. 2017. https://arxiv.org/abs/1606.08571
    """

    chain_length = 0

    def __init__(
        self,
        generator: nn.Module,
        space: Space | TokenSpace,
        posterior_langevin: Langevin,
        optim: dict[str, Adam],
        infer_steps: int = 0,
        chains: WarmStart | None = None,
    ) -> None:
        super().__init__(generator, space, posterior_langevin, optim, infer_steps, chains)

    def prior_energy(self, latent: Tensor) -> Tensor:
        """‖z‖²/2, **(B, d) -> (B,)**."""
        return latent.square().sum(1) / 2

    def latent(
        self,
        n: int,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        on_step: Hook | None = None,
    ) -> Tensor:
        """Draw z ~ N(0, I), **(n, d)**, in no steps; see `LatentVariableModel`."""
        if steps:
            raise DataError(f"N(0, I) is drawn at once, it cannot take {steps} steps: leave steps out.")
        return self._normal(n, generator)
