"""Decoders of sequences: what a latent vector says, token by token."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.space import TokenSpace


class RecurrentOutput(nn.Module):
    """A recurrent network that writes a sentence from a latent vector.

        p(x | z) = Π_t p(x_t | x_{<t}, z),    p(x_t | x_{<t}, z) = softmax(V h_t)
        h_t = GRU([e(x_{t−1}), z], h_{t−1}),    h_0 = tanh(W z),    x_0 = 0

    z is the first state, and part of the input at every step. A sentence ends with its first 0. The last entry of a
    row is 0 whatever was written, so it is no token, and p(x | z) sums to one over all rows.

    Args:
        space: vocabulary and length of the sentences.
        latent_dim: d, entries of z.
        embedding: entries of e, which stands for a token.
        hidden: entries of the state h of a layer.
        layers: gated recurrent units on top of one another.
        word_dropout: probability that an input token is replaced by 0 in learning, see Notes.

    Raises:
        ConfigError: for a size below 1, or a probability outside [0, 1).

    References:
        Pang, Han, Nijkamp, Zhu, Wu. Learning Latent Space Energy-Based Prior Model. 2020.
        https://arxiv.org/abs/2006.08205 (a recurrent decoder of sentences).
        Pang, Han, Wu. Learning Latent Space Energy-Based Prior Model for Molecule Generation. 2020.
        https://arxiv.org/abs/2010.09351 (of molecules).
        Bowman, Vilnis, Vinyals, Dai, Jozefowicz, Bengio. Generating Sentences from a Continuous Space. 2015.
        https://arxiv.org/abs/1511.06349 (word dropout).

    Notes:
        What came before says much about the next token, so that learning may leave z unused. A word that is now and
        then left out of the input has to be found in z. It is left out while weights learn and posteriors are
        inferred in training; a model in evaluation sees all words.
    """

    def __init__(
        self,
        space: TokenSpace,
        latent_dim: int,
        embedding: int = 32,
        hidden: int = 256,
        layers: int = 1,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = (latent_dim, embedding, hidden, layers)
        if min(sizes) < 1 or not 0 <= word_dropout < 1:
            raise ConfigError(f"A decoder needs sizes of 1 or more, word_dropout in [0, 1), not {sizes, word_dropout}.")
        self.space, self.latent_dim, self.embedding = space, latent_dim, embedding
        self.hidden, self.layers, self.word_dropout = hidden, layers, word_dropout
        self.embed = nn.Embedding(space.size, embedding)
        self.begin = nn.Linear(latent_dim, layers * hidden)
        self.recur = nn.GRU(embedding + latent_dim, hidden, layers, batch_first=True)
        self.predict = nn.Linear(hidden, space.size)

    def forward(self, z: Float[Tensor, "b d"]) -> Int64[Tensor, "b length"]:
        """The sentences that z makes likely, each token the most probable one after those before it: no search."""
        return self._write(z, lambda logits: logits.argmax(1))

    def draw(self, z: Float[Tensor, "b d"], generator: torch.Generator | None = None) -> Int64[Tensor, "b length"]:
        """Draws of p(x | z), token by token.

        Args:
            z: latent vectors, **(B, d)**.
            generator: source of randomness; None uses torch's global stream.
        """
        return self._write(z, lambda logits: logits.softmax(1).multinomial(1, generator=generator)[:, 0])

    def misfit(
        self, z: Float[Tensor, "b d"], x: Int64[Tensor, "b length"], known: Bool[Tensor, "#b #length"] | None = None
    ) -> Float[Tensor, " b"]:
        """−log p(x | z), in nats, of whole sentences or of their beginnings.

        Args:
            z: latent vectors, **(B, d)**.
            x: rows of tokens, **(B, L)**.
            known: True where an entry counts, broadcastable to ``x``.

        Returns:
            One number per sentence, **(B,)**.

        Raises:
            DataError: if a known entry stands behind an unknown one: the sum over what may stand there has no formula.
        """
        counted = self.space.counted(x)
        if known is not None:
            known = known.expand_as(x)
            if (known[:, 1:] & ~known[:, :-1]).any():
                raise DataError(
                    "Known tokens stand behind unknown ones: only the beginning of a sentence can be known."
                )
            counted = counted & known[:, :-1]
        before = nn.functional.pad(x[:, :-2], (1, 0))
        if self.training and self.word_dropout:
            before = before * (torch.rand(before.shape, device=x.device) >= self.word_dropout)
        states, _ = self._advance(before, z, self._first(z))
        logits = self.predict(states).float()
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), x[:, :-1], reduction="none")
        return (losses * counted).sum(1)

    def text(self, ids: Int64[Tensor, "b length"]) -> list[str]:
        """Rows **(B, L)** as sentences."""
        return self.space.text(ids)

    def _first(self, z: Tensor) -> Tensor:
        return self.begin(z).tanh().unflatten(1, (self.layers, self.hidden)).transpose(0, 1).contiguous()

    def _advance(self, before: Tensor, z: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        inputs = torch.cat([self.embed(before), z[:, None].expand(-1, before.shape[1], -1)], 2)
        return self.recur(inputs, state)

    @torch.no_grad()
    def _write(self, z: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        ids = torch.zeros(len(z), self.space.length, dtype=torch.long, device=z.device)
        token, state = ids[:, 0], self._first(z)
        going_on = torch.ones_like(token)
        for t in range(self.space.length - 1):
            states, state = self._advance(token[:, None], z, state)
            token = choose(self.predict(states[:, 0]).float()) * going_on
            going_on = (token > 0).long()
            ids[:, t] = token
            if not going_on.any():
                break
        return ids
