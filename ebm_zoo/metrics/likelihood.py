"""How well a model predicts data it has not seen."""

import math

from jaxtyping import Float
from torch import Tensor


def bits_per_dimension(log_prob: Float[Tensor, " b"], entries: int) -> Float[Tensor, ""]:
    """Mean bits that a code built on the model spends on each entry of a datum, −log p / (D log 2).

    Args:
        log_prob: log p, in nats per datum.
        entries: D, entries of a datum.
    """
    return -log_prob.mean() / (entries * math.log(2))
