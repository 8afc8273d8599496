"""CycleCoopNets of image sequences: translations that stay predictable from frame to frame."""

from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.models.cycle_coopnets import DOMAINS, CycleCoopNets
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Sampler
from ebm_zoo.space import Space


class SequenceCycleCoopNets(CycleCoopNets):
    """Frames are translated as by `CycleCoopNets`; a recurrent predictor per domain ties them in time.

        L_rec = mean (a_{t+k+1} − R_a(a_t … a_{t+k}))², and the same of b
        L_st = mean (a_{t+k+1} − g_ba(R_b(g_ab(a_t) … g_ab(a_{t+k}))))², and the same of b
        translators and predictors minimise the teaching and cycle terms of `CycleCoopNets` + α L_rec + λ L_st

    Args:
        energy_a: E_a of single frames, **(B, C, H, W) -> (B,)**.
        energy_b: E_b, the same of the second domain.
        translator_ab: g_ab of single frames, **(B, C, H, W) -> (B, C, H, W)**.
        translator_ba: g_ba, from the second domain to the first.
        predictor_a: R_a, the frame after a clip, **(B, k + 1, C, H, W) -> (B, C, H, W)**.
        predictor_b: R_b, the same of the second domain.
        space: shape (T, C, H, W) and range of the clips that are learned.
        sampler: Langevin dynamics that revise frames.
        optim: Adam settings for the six networks.
        window: k + 1, how many frames a predictor sees; less than T.
        prediction_weight: α, weight of the predictors' own loss.
        sequence_weight: λ, weight of the way through the other domain's future.
        cycle_weight: as for `CycleCoopNets`.
        sample_steps: steps that revise a draft in the tasks; 0 = the sampler's own.
        data_noise: standard deviation of Gaussian noise added to the data that the energies learn.
        penalty: weight of the squared energies, see `ebm_zoo.losses.maximum_likelihood`.

    References:
        Xie, Zheng, Fang, Zhu, Wu. Learning Cycle-Consistent Cooperative Networks via Alternating MCMC Teaching for
        Unsupervised Cross-Domain Translation. 2021. https://arxiv.org/abs/2103.04285

    Notes:
        No code of the authors for sequences is known. They weigh teaching, not prediction, against the rest, and have
        no cycle of single frames beside L_st: ``cycle_weight=0``.
    """

    tasks = ("translate", "energy", "predict_next")

    def __init__(
        self,
        energy_a: nn.Module,
        energy_b: nn.Module,
        translator_ab: nn.Module,
        translator_ba: nn.Module,
        predictor_a: nn.Module,
        predictor_b: nn.Module,
        space: Space,
        sampler: Sampler,
        optim: dict[str, Adam],
        window: int = 2,
        prediction_weight: float = 1.0,
        sequence_weight: float = 10.0,
        cycle_weight: float = 0.0,
        sample_steps: int = 0,
        data_noise: float = 0.0,
        penalty: float = 0.0,
    ) -> None:
        super().__init__(
            energy_a,
            energy_b,
            translator_ab,
            translator_ba,
            space,
            sampler,
            optim,
            cycle_weight=cycle_weight,
            sample_steps=sample_steps,
            data_noise=data_noise,
            penalty=penalty,
        )
        if len(space.shape) != 4 or not 0 < window < space.shape[0]:
            raise ConfigError(f"window must be 1 or more and less than T of clips (T, C, H, W), not {window}, {space}.")
        if prediction_weight < 0 or sequence_weight < 0:
            raise ConfigError("prediction_weight and sequence_weight must be 0 or more.")
        self.predictor_a, self.predictor_b, self.window = predictor_a, predictor_b, window
        self.prediction_weight, self.sequence_weight = prediction_weight, sequence_weight

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """One iteration: frames as in `CycleCoopNets`, then what the predictors see of clips and translated clips."""
        a, b = self.observed(batch)
        draft_b, draft_a = self.translator_ab(a.flatten(0, 1)), self.translator_ba(b.flatten(0, 1))
        losses = self.cooperate(a.flatten(0, 1), b.flatten(0, 1), draft_b, draft_a)
        for x, draft, own, other, back in (
            (a, draft_b, self.predictor_a, self.predictor_b, self.translator_ba),
            (b, draft_a, self.predictor_b, self.predictor_a, self.translator_ab),
        ):
            past, future = self._windows(x)
            translated, _ = self._windows(draft.unflatten(0, x.shape[:2]))
            predicted = nn.functional.mse_loss(own(past), future)
            returned = nn.functional.mse_loss(back(other(translated)), future)
            sequence = self.prediction_weight * predicted + self.sequence_weight * returned
            losses["translators"] = losses["translators"] + sequence
        return losses

    def _windows(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """All windows of clips and the frames behind them, **(B, T, *) -> (N, k + 1, *), (N, *)**."""
        if clips.shape[1] <= self.window:
            raise DataError(
                f"Clips of {clips.shape[1]} frames are too short for predictors of {self.window}: give at least "
                f"{self.window + 1} frames, or lower window."
            )
        windows = clips.unfold(1, self.window + 1, 1).movedim(-1, 2).flatten(0, 1)
        return windows[:, :-1], windows[:, -1]

    def energy(self, x: Tensor, of: str) -> Tensor:
        """Energy in one of the domains, summed over the frames, **(B, T, C, H, W) -> (B,)**, low = likely."""
        return super().energy(x.flatten(0, 1), of).unflatten(0, x.shape[:2]).sum(1)

    def translate(self, x: Tensor, to: str, **settings: Any) -> Tensor:
        """Translate clips into a domain, frame by frame.

        Args:
            x: clips of the other domain, **(B, T, C, H, W)**, T of 1 or more.
            to: "a", the first domain, or "b", the second.
            settings: steps, generator and on_step, as for `CycleCoopNets.translate`.

        Returns:
            Clips, **(B, T, C, H, W)**.
        """
        return super().translate(_clips(x).flatten(0, 1), to, **settings).unflatten(0, x.shape[:2])

    @torch.no_grad()
    def predict_next(self, x: Tensor, of: str) -> Tensor:
        """The frame after clips of a domain, **(B, T, C, H, W) -> (B, C, H, W)**, from their last `window` frames.

        Raises:
            DataError: for clips of fewer frames, or other channels or values than those learned.
        """
        if _clips(x).shape[1] < self.window:
            raise DataError(f"The predictor sees {self.window} frames; clips of {x.shape[1]} are too short.")
        self._checked(x.flatten(0, 1))
        predictor = self.predictor_a if self._pair(of)[0] is self.energy_a else self.predictor_b
        return self._inside(predictor(x[:, -self.window :]))

    def answers_both_ways(self, batch: Any) -> dict[str, Tensor]:
        """As for `CycleCoopNets`, and errors of the next frame.

        ``a_next_error`` is that of the predictor, ``a_copy_error`` that of the last frame in its place, mean absolute
        errors of all windows, **(N,)**.
        """
        answers = super().answers_both_ways(batch)
        for domain in DOMAINS:
            if domain in answers:
                past, future = self._windows(answers[domain])
                guesses = {"next": self.predict_next(past, domain), "copy": past[:, -1]}
                for name, guess in guesses.items():
                    answers[f"{domain}_{name}_error"] = (guess - future).abs().flatten(1).mean(1)
        return answers


def _clips(x: Tensor) -> Tensor:
    if x.dim() != 5:
        raise DataError(f"This model takes clips of shape (B, T, C, H, W), not {tuple(x.shape)}.")
    return x
