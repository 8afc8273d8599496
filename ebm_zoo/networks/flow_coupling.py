"""Couplings of a flow by mixtures of logistic distributions."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.networks.flow_conditioner import Conditioner, CouplingSize

MIN_LOG_SCALE = -7.0


class Coupling(nn.Module):
    """One half of the channels is transformed, the other says how, and they change places.

        y = (logit F(x) + t) exp(s),    F(x) = Σ_k π_k σ((x − μ_k) exp(−l_k))

    π, μ, l, t and s of each entry come from a network that sees the other half. Any network will do: x enters its
    own transformation alone, so the Jacobian is triangular and log |det| = Σ log dy/dx. At the beginning F is a
    mixture of equal parts between −2 and 2, whatever the other half.

    Args:
        channels: channels of both halves together, even.
        map_size: height and width of the map.
        size: of the network and the mixture.
        context: channels of a context for the network; 0 = none.

    References:
        Ho, Chen, Srinivas, Duan, Abbeel. Flow++: Improving Flow-Based Generative Models with Variational
        Dequantization and Architecture Design. 2019. https://arxiv.org/abs/1902.00275

    Notes:
        logit F is computed from logarithms of F and 1 − F, so that nothing is clipped; the code that CoopFlow is
        built on clips F to [1e-5, 1 − 1e-5] when it inverts.
    """

    def __init__(self, channels: int, map_size: tuple[int, int], size: CouplingSize, context: int = 0) -> None:
        super().__init__()
        half, k = channels // 2, size.components
        # Equal components would stay alike for long: apart, they learned a flow of clothing faster.
        start = torch.zeros(half, 2 + 3 * k)
        start[:, 2 + k : 2 + 2 * k] = torch.linspace(-2, 2, k + 2)[1:-1]
        self.components = k
        self.conditioner = Conditioner(half, map_size, size, context, start.flatten())
        self.scale = nn.Parameter(torch.ones(half))

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
        """y and log |det|, **(B, C, H, W) -> (B, C, H, W), (B,)**."""
        changed, kept = x.chunk(2, 1)
        shift, log_scale, mixture = self._settings(kept, context)
        value, log_slope = mixture_logit(changed.permute(0, 2, 3, 1), *mixture)
        y = (value + shift) * log_scale.exp()
        return torch.cat([kept, y.permute(0, 3, 1, 2)], 1), (log_slope + log_scale).sum((1, 2, 3))

    def inverse(self, y: Float[Tensor, "b c h w"], context: Tensor | None = None) -> Float[Tensor, "b c h w"]:
        """x of y, **(B, C, H, W)**."""
        kept, changed = y.chunk(2, 1)
        shift, log_scale, mixture = self._settings(kept, context)
        value = changed.permute(0, 2, 3, 1) * (-log_scale).exp() - shift
        return torch.cat([mixture_quantile(value, *mixture).permute(0, 3, 1, 2), kept], 1)

    def _settings(self, kept: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        """t and s, **(B, H, W, C/2)**, and log π, μ and l, **(B, H, W, C/2, K)**."""
        # The network may run in bfloat16: both directions see the same numbers. What they do with them may not, and
        # so comes back in the precision of the state.
        raw = self.conditioner(kept, context).to(kept.dtype).permute(0, 2, 3, 1).unflatten(3, (len(self.scale), -1))
        k = self.components
        weight, mean, spread = raw[..., 2:].split(k, 4)
        mixture = (weight.log_softmax(4), mean, spread.clamp(min=MIN_LOG_SCALE))
        return raw[..., 0], self.scale * raw[..., 1].tanh(), mixture


def mixture_logit(
    x: Float[Tensor, "*n"],
    log_weight: Float[Tensor, "*n k"],
    mean: Float[Tensor, "*n k"],
    log_scale: Float[Tensor, "*n k"],
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """logit F(x) of mixtures of logistic distributions, and the logarithm of its slope.

    Args:
        x: entries.
        log_weight: log π, normalised over the last axis.
        mean: μ.
        log_scale: l.
    """
    z = (x.unsqueeze(-1) - mean) * (-log_scale).exp()
    below = nn.functional.logsigmoid(z)
    above = below - z
    log_cdf = (log_weight + below).logsumexp(-1)
    log_rest = (log_weight + above).logsumexp(-1)
    log_density = (log_weight + below + above - log_scale).logsumexp(-1)
    return log_cdf - log_rest, log_density - log_cdf - log_rest


def mixture_quantile(
    value: Float[Tensor, "*n"],
    log_weight: Float[Tensor, "*n k"],
    mean: Float[Tensor, "*n k"],
    log_scale: Float[Tensor, "*n k"],
) -> Float[Tensor, "*n"]:
    """x where logit F(x) = v: the inverse of `mixture_logit`, to rounding.

    Newton's method on logit F, which is nearly a straight line; it bisects a bracket where it does not make good
    progress, and goes on with the entries alone that are not there yet. Gradients are those of the inverse function.

    Args:
        value: v.
        log_weight: log π, normalised over the last axis.
        mean: μ.
        log_scale: l.
    """
    with torch.no_grad():
        flat = [each.flatten(0, -2) for each in (log_weight, mean, log_scale)]
        x = _root(value.flatten(), *flat).view_as(value)
    if torch.is_grad_enabled():
        found, log_slope = mixture_logit(x, log_weight, mean, log_scale)
        # A Newton step of no size, but with the derivatives of an implicit function.
        error = found - value
        x = x - (error - error.detach()) * (-log_slope.detach()).exp()
    return x


def _root(value: Tensor, *mixture: Tensor) -> Tensor:
    log_weight, mean, log_scale = mixture
    # F lies between its components, so the root lies between theirs.
    roots = mean + log_scale.exp() * value[:, None]
    low, high = roots.amin(1), roots.amax(1)
    x = (log_weight.exp() * roots).sum(1)
    answer = x.clone()
    left, tolerance = torch.arange(len(x), device=x.device), 4 * torch.finfo(x.dtype).eps
    before = torch.full_like(x, float("inf"))
    for _ in range(100):
        found, log_slope = mixture_logit(x, *mixture)
        error = found - value
        low, high = torch.where(error < 0, x, low), torch.where(error > 0, x, high)
        step = error * (-log_slope).exp()
        newton = x - step
        # Where F is flat, rounding alone makes steps that lead far away from what is exact already.
        exact = error.abs() <= tolerance * (1 + value.abs())
        small = exact | (step.abs() <= tolerance * (1 + x.abs()))
        poor = ~small & ((newton < low) | (newton > high) | (error.abs() > before / 2))
        x = torch.where(exact, x, torch.where(poor, (low + high) / 2, newton))
        before = error.abs()
        answer[left] = x
        open_ = (~small).nonzero()[:, 0]
        if not len(open_):
            break
        if len(open_) < len(left):
            left, x, low, high, before, value = (each[open_] for each in (left, x, low, high, before, value))
            mixture = tuple(each[open_] for each in mixture)
    return answer
