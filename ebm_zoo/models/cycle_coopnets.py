"""CycleCoopNets: two cooperative pairs that translate between two domains without paired examples."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.losses import maximum_likelihood
from ebm_zoo.models.base import EnergyModel, without_batch_norm
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Sampler
from ebm_zoo.space import Space

DOMAINS = ("a", "b")


class CycleCoopNets(EnergyModel):
    """An energy per domain, and a translator into it that the energy teaches; a cycle ties the two translators.

        b̂ = g_ab(a);    b̃ = Langevin on E_b from b̂;    E_b learns from b against b̃; and the same with a for b
        the translators minimise mean (b̃ − b̂)² + mean (ã − â)²
            + λ (mean |a − g_ba(b̂)| + mean |b − g_ab(â)|) + μ (mean |a − g_ba(a)| + mean |b − g_ab(b)|)

    Means are over data and their entries. Revised images are constants to all networks.

    Args:
        energy_a: E_a, **(B, C, H, W) -> (B,)**, low = likely in the first domain.
        energy_b: E_b, the same of the second domain.
        translator_ab: g_ab, **(B, C, H, W) -> (B, C, H, W)**, from the first domain to the second.
        translator_ba: g_ba, from the second domain to the first.
        space: shape and range of the images that are learned, of either domain; translated images may have other
            sides.
        sampler: Langevin dynamics that revise.
        optim: Adam settings for the four networks.
        cycle_weight: λ, weight of the cycles.
        identity_weight: μ, how much a translator leaves images as they are that belong to its target already.
        sample_steps: steps that revise a draft in the tasks; 0 = the sampler's own.
        data_noise: standard deviation of Gaussian noise added to the data that the energies learn.
        penalty: weight of the squared energies, see `ebm_zoo.losses.maximum_likelihood`.

    References:
        Xie, Zheng, Fang, Zhu, Wu. Learning Cycle-Consistent Cooperative Networks via Alternating MCMC Teaching for
        Unsupervised Cross-Domain Translation. 2021. https://arxiv.org/abs/2103.04285

    Notes:
        The official code lets gradients flow through the chains; its paper does not, nor does this. It updates the
        energies before the translators; since revised images are constants, one backward gives the same gradients.
    """

    tasks: tuple[str, ...] = ("translate", "energy")

    def __init__(
        self,
        energy_a: nn.Module,
        energy_b: nn.Module,
        translator_ab: nn.Module,
        translator_ba: nn.Module,
        space: Space,
        sampler: Sampler,
        optim: dict[str, Adam],
        cycle_weight: float = 10.0,
        identity_weight: float = 0.0,
        sample_steps: int = 0,
        data_noise: float = 0.0,
        penalty: float = 0.0,
    ) -> None:
        super().__init__(space, optim)
        if min(cycle_weight, identity_weight, sample_steps, data_noise, penalty) < 0:
            raise ConfigError("cycle_weight, identity_weight, sample_steps, data_noise and penalty must be 0 or more.")
        self.energy_a, self.energy_b = without_batch_norm(energy_a), without_batch_norm(energy_b)
        self.translator_ab, self.translator_ba = translator_ab, translator_ba
        self.sampler, self.sample_steps = sampler, sample_steps
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        self.data_noise, self.penalty = data_noise, penalty

    @property
    def chain_length(self) -> int:
        """Steps that revise a draft."""
        return self.sample_steps or self.sampler.steps

    def observed(self, batch: Any) -> tuple[Any, ...]:
        """Images of both domains, or None of one whose data have come to their end."""
        if not isinstance(batch, Sequence) or len(batch) != 2:
            raise DataError("This model learns two domains: give UnpairedImageData or UnpairedVideoData.")
        return tuple(batch)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """One iteration: translate, revise, shift the energies to the data, teach the translators."""
        a, b = self.observed(batch)
        return self.cooperate(a, b, self.translator_ab(a), self.translator_ba(b))

    def cooperate(self, a: Tensor, b: Tensor, draft_b: Tensor, draft_a: Tensor) -> dict[str, Tensor]:
        """Losses of all networks, given drafts.

        Args:
            a: images of the first domain, **(B, C, H, W)**.
            b: images of the second domain, **(D, C, H, W)**.
            draft_b: b̂, translations of ``a`` with their graph.
            draft_a: â, translations of ``b`` with their graph.

        Returns:
            ``energy_a``, ``energy_b``, and ``translators`` for both.
        """
        revised_a = self.sampler(self.energy_a, self._inside(draft_a.detach()))
        revised_b = self.sampler(self.energy_b, self._inside(draft_b.detach()))
        self.contrasts = {"energy_a": (a, revised_a), "energy_b": (b, revised_b)}
        taught = nn.functional.mse_loss(draft_a, revised_a) + nn.functional.mse_loss(draft_b, revised_b)
        if self.cycle_weight:
            taught = taught + self.cycle_weight * (
                _error(self.translator_ba(draft_b), a).mean() + _error(self.translator_ab(draft_a), b).mean()
            )
        if self.identity_weight:
            taught = taught + self.identity_weight * (
                _error(self.translator_ba(a), a).mean() + _error(self.translator_ab(b), b).mean()
            )
        return {
            "energy_a": self._shift(self.energy_a, a, revised_a),
            "energy_b": self._shift(self.energy_b, b, revised_b),
            "translators": taught,
        }

    def _shift(self, energy: nn.Module, x: Tensor, revised: Tensor) -> Tensor:
        positive = x + self.data_noise * torch.randn_like(x)
        return maximum_likelihood(energy, positive, revised, penalty=self.penalty)

    def _inside(self, x: Tensor) -> Tensor:
        return x.float().clamp(self.space.low, self.space.high)

    def energy(self, x: Tensor, of: str) -> Tensor:
        """Energy in one of the domains, **(B, C, H, W) -> (B,)**, low = likely."""
        return self._pair(of)[0](x)

    @torch.no_grad()
    def propose(self, x: Tensor, to: str) -> Tensor:
        """Drafts in a domain of images of the other one, **(B, C, H, W) -> (B, C, H, W)**, inside the range."""
        return self._inside(self._pair(to)[1](x))

    def translate(self, x: Tensor, to: str, *, steps: int | None = None, **settings: Any) -> Tensor:
        """Translate images into a domain: draft, revise.

        Args:
            x: images of the other domain, **(B, C, H, W)**; sides that the translator takes.
            to: "a", the first domain, or "b", the second.
            steps: steps that revise, 0 = the drafts; `chain_length` unless given.
            settings: generator and on_step, as for a `Sampler`.

        Returns:
            Images, **(B, C, H, W)**.

        Raises:
            DataError: if the images have other channels or values than those learned, or there is no such domain.
        """
        energy, _ = self._pair(to)
        drafts = self.propose(self._checked(x), to)
        return self.sampler(energy, drafts, steps=self.chain_length if steps is None else steps, **settings)

    def _pair(self, domain: str) -> tuple[nn.Module, nn.Module]:
        """The energy of a domain, and the translator into it."""
        if domain not in DOMAINS:
            raise DataError(f"There are the domains 'a' and 'b', not {domain!r}.")
        return (self.energy_a, self.translator_ba) if domain == "a" else (self.energy_b, self.translator_ab)

    def _checked(self, x: Tensor) -> Tensor:
        """Images of the learned channels and range, of whatever sides."""
        shape = (self.space.shape[-3], *x.shape[-2:])
        return Space(shape, self.space.low, self.space.high).check(x)

    def answer(self, x: Tensor, to: str) -> dict[str, Tensor]:
        """Draft and revision of images, and how far the way back leads from them.

        Args:
            x: images of the other domain, **(B, C, H, W)**.
            to: where they are translated to.

        Returns:
            ``drafts`` and ``samples``, **(B, C, H, W)**; ``draft_cycle`` and ``cycle``, mean absolute error of
            translating back, drafts by a draft and revisions by a revision, **(B,)**.
        """
        other: str = "a" if to == "b" else "b"
        drafts, samples = self.translate(x, to, steps=0), self.translate(x, to)
        back = {"draft_cycle": self.translate(drafts, other, steps=0), "cycle": self.translate(samples, other)}
        return {"drafts": drafts, "samples": samples, **{name: _error(each, x) for name, each in back.items()}}

    def answers_both_ways(self, batch: Any) -> dict[str, Tensor]:
        """Images of either domain as ``a``, ``b``, and what `answer` says of them, as ``a_drafts`` and so on.

        What is said of images in domain a, translated from b, begins with ``a_``.
        """
        given = dict(zip(DOMAINS, self.observed(batch), strict=True))
        answers: dict[str, Tensor] = {}
        for source, target in (DOMAINS, DOMAINS[::-1]):
            x = given[source]
            if x is not None:
                answers[source] = x
                answers |= {f"{target}_{name}": value for name, value in self.answer(x, target).items()}
        return answers

    @torch.no_grad()
    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Translations both ways, and energies of data and of revised translations in either domain."""
        answers = self.answers_both_ways(batch)
        for domain in DOMAINS:
            for name, x in (("data", answers.get(domain)), ("samples", answers.get(f"{domain}_samples"))):
                if x is not None:
                    value = self.energy(x, domain).mean()
                    self.log(f"energy_{domain}/{name}", value, batch_size=len(x), sync_dist=True)
        return answers

    @torch.no_grad()
    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Translations both ways."""
        return self.answers_both_ways(batch)

    @torch.no_grad()
    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Translations both ways."""
        return self.answers_both_ways(batch)


def _error(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute difference per datum, **(B, *), (B, *) -> (B,)**."""
    return (x.float() - y.float()).abs().flatten(1).mean(1)
