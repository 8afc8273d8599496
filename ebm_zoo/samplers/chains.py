"""Where a run of MCMC starts, and what is remembered of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.samplers.noise import Noise


class Chains(ABC):
    """Start and memory of the chains that give the negative samples of learning.

    Memory is held in plain tensors, never in module buffers: DistributedDataParallel would overwrite every rank's
    buffers with rank 0's. `state` and `restore` carry it through training checkpoints.
    """

    @abstractmethod
    def start(self, x: Tensor, noise: Noise) -> Tensor:
        """Begin a run.

        Args:
            x: observed batch, **(B, *)**.
            noise: p0, where a chain begins that continues nothing.

        Returns:
            Starting states, **(C, *)**; C may differ from B.
        """

    def finish(self, x: Tensor) -> None:
        """End a run.

        Args:
            x: last states of the chains that `start` returned, **(C, *)**.
        """

    def state(self) -> dict[str, Tensor]:
        """What must be remembered between runs; empty where nothing is."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> str:
        """Take up what `state` returned; says in words what could not be taken up as it was, if anything."""
        return ""


class ShortRun(Chains):
    """Every run starts from fresh noise: non-persistent short-run MCMC.

    Good for: chains that at test time do just what they did in learning. Often confused with: an approximation of
    sampling from p(x); with few steps the model learned is the short run itself.

    Args:
        count: number of chains C; 0 = as many as the batch.

    References:
        Nijkamp, Hill, Zhu, Wu. On Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based
        Model. 2019. https://arxiv.org/abs/1904.09770
    """

    def __init__(self, count: int = 0) -> None:
        self.count = _at_least("count", count, 0)

    def start(self, x, noise):
        """Draw fresh noise; see `Chains`."""
        return noise(x.new_empty((self.count or len(x), *x.shape[1:])))


class FromData(Chains):
    """Every run starts from the observed batch: contrastive divergence.

    References:
        Hinton. Training Products of Experts by Minimizing Contrastive Divergence. 2002.
        https://doi.org/10.1162/089976602760128018
    """

    def start(self, x, noise):
        """Copy the batch; see `Chains`."""
        return x.detach().clone()


class Memory(Chains):
    """Chains that are remembered between runs.

    Args:
        size: chains in the memory.
    """

    def __init__(self, size: int) -> None:
        self.size = _at_least("size", size, 1)
        self.memory: Tensor | None = None
        self._taken = torch.empty(0, dtype=torch.long)

    def begin(self, x: Tensor, noise: Noise) -> Tensor:
        """The memory, **(size, *)**: noise like ``x``, **(B, *)**, at the first run, and where it has grown since."""
        missing = self.size - (0 if self.memory is None else len(self.memory))
        if missing:
            fresh = noise(x.new_empty((missing, *x.shape[1:])))
            self.memory = fresh if self.memory is None else torch.cat([self.memory.to(x.device), fresh])
        self.memory = self.memory.to(x.device)  # type: ignore[union-attr]
        return self.memory

    def finish(self, x):
        """Put the chains back; see `Chains`."""
        if self.memory is not None:
            self.memory[self._taken] = x.detach().to(self.memory.dtype)

    def state(self):
        """The memory, **(size, *)**."""
        return {} if self.memory is None else {"memory": self.memory}

    def restore(self, state):
        """Take up a memory, cut to ``size`` where it is larger; where it is smaller, `begin` adds fresh chains."""
        found = state["memory"] if state else None
        self.memory = None if found is None else found[: self.size].clone()
        if found is None or len(found) == self.size:
            return ""
        rest = "the others are dropped" if len(found) > self.size else f"{self.size - len(found)} begin anew"
        return f"{min(len(found), self.size)} of {len(found)} chains are taken up, {rest}"


class Persistent(Memory):
    """Runs continue where earlier ones ended: a replay memory of chains, a part of them begun anew.

    Each run takes C chains of the memory at random; each is replaced by fresh noise with probability ``refresh``,
    so a chain lives 1/refresh runs on average. Each rank of a distributed run has its own memory.

    Args:
        size: chains in the memory.
        refresh: probability that a chain starts anew, in [0, 1].
        count: number of chains C per run; 0 = as many as the batch.

    Raises:
        ConfigError: if a number is out of its range, or more chains are asked for than the memory holds.

    References:
        Tieleman. Training Restricted Boltzmann Machines using Approximations to the Likelihood Gradient. 2008.
        Du, Mordatch. Implicit Generation and Generalization in Energy-Based Models. 2019.
        https://arxiv.org/abs/1903.08689
    """

    def __init__(self, size: int, refresh: float = 0.05, count: int = 0) -> None:
        if not 0 <= refresh <= 1:
            raise ConfigError(f"Persistent refresh is a probability, not {refresh}.")
        super().__init__(size)
        self.refresh, self.count = refresh, _at_least("count", count, 0)

    def start(self, x, noise):
        """Take chains of the memory, some begun anew; see `Chains`."""
        count = self.count or len(x)
        if count > self.size:
            raise ConfigError(
                f"{count} chains are asked of a replay memory of {self.size}: raise its size to {count} or more, "
                "or lower the batch size or count."
            )
        memory = self.begin(x, noise)
        self._taken = torch.randperm(self.size, device=x.device)[:count]
        chains = memory[self._taken]
        anew = torch.rand(count, device=x.device) < self.refresh
        if anew.any():
            # As many as begin anew: noise may be a generator's drafts, which cost a pass each.
            chains[anew] = noise(chains[anew])
        return chains


class WarmStart(Memory):
    """One chain per training datum, which continues where it ended when the datum was seen last.

    Good for: posteriors of latent vectors, one per datum. Often confused with: `Persistent`, whose chains belong to
    no datum. Each rank of a distributed run has its own memory.

    Args:
        size: training data, as many as there are chains.

    Raises:
        ConfigError: if there are none, the data do not tell which they are, or are more than ``size``.

    References:
        Han, Lu, Zhu, Wu. Alternating Back-Propagation for Generator Network. 2017. https://arxiv.org/abs/1606.08571
    """

    def start(self, x, noise, index=None):
        """Take the chains of data ``index``, **(B,)**, all of which begin at noise; see `Chains`."""
        if index is None:
            raise ConfigError("WarmStart needs the index of each training datum: use IndexedImageData.")
        if len(index) and int(index.max()) >= self.size:
            raise ConfigError(f"WarmStart has {self.size} chains and no datum {int(index.max())}: raise its size.")
        memory, self._taken = self.begin(x, noise), index
        return memory[index]


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ConfigError(f"{name} must be {least} or more, not {value}.")
    return value


def held_chains(holder: Any, way: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Chains]]:
    """Chains that a module, list, tuple or dict holds at any depth, each once, with the way to them.

    Args:
        holder: where to look.
        way: names and numbers, with points between them, that lead to it.
        seen: what has been looked at, by `id`.
    """
    seen = set() if seen is None else seen
    if id(holder) in seen:
        return
    if isinstance(holder, Chains):
        seen.add(id(holder))
        yield way, holder
        return
    parts: dict[Any, Any] = {}
    if isinstance(holder, nn.Module):
        # Before its networks, which it keeps apart: a chain that both hold goes by the name it has in the model.
        parts = {name: value for name, value in vars(holder).items() if name != "_modules"} | holder._modules
    elif isinstance(holder, dict):
        parts = holder
    elif isinstance(holder, (list, tuple)):
        parts = dict(enumerate(holder))
    if parts:
        seen.add(id(holder))
    for name, value in parts.items():
        yield from held_chains(value, f"{way}.{name}" if way else str(name), seen)
