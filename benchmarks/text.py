"""Likelihood of held-out sentences: ``python -m benchmarks.text latent_ebm/shakespeare``.

The bound of ``docs/sequences.md``, in nats per token, over the first test sentences of the model's configuration: for
each, importance sampling with K draws of a Gaussian around the mode of its posterior, and the prior's normalising
constant by importance sampling from a Gaussian. Beside it, for scale, tokens by their frequency in the training data,
alone (``unigram``) and after the token before (``bigram``, each count raised by one); and what tokens cost given the z
inferred of their sentence, or of another one: the nearer these are, the less z tells. Ten samples follow, the first
that were drawn. Works for molecules too.
"""

import argparse
import math
from collections.abc import Sequence
from typing import Any

import torch
import yaml
from torch import Tensor

import ebm_zoo.data
from ebm_zoo import from_pretrained
from ebm_zoo.errors import ConfigError
from ebm_zoo.metrics import importance_bound, laplace_proposal, log_normaliser, log_weights
from ebm_zoo.metrics.latent import Potential
from ebm_zoo.zoo import config_path

BATCH = 100
PRIOR_ROWS, PRIOR_DRAWS = 1024, 256


def sentence_data(name: str, model: Any) -> Any:
    """The data module of a model's configuration, set up."""
    settings = yaml.safe_load(config_path(name).read_text())["data"]
    kind = getattr(ebm_zoo.data, settings["class_path"].rpartition(".")[2])
    data = kind(**{**settings["init_args"], "space": model.space})
    data.setup()
    return data


def prior_potential(model: Any) -> Potential:
    """E(z) / T = −log p(z) up to a constant."""
    if not model.temperature:
        raise ConfigError("The prior's chains are without noise (noise_scale 0): what they draw has no density.")
    return lambda z: model.prior_energy(z) / model.temperature


def prior_constant(model: Any, generator: torch.Generator) -> tuple[float, float]:
    """log ∫ exp(−E(z) / T) dz / (2π)^{d/2} of the prior, raised by three standard errors, and its effective draws."""
    with torch.no_grad():
        drawn = model.latent(PRIOR_ROWS, generator=generator)
    # A little wider than what the prior's chains find: where a proposal is too narrow, a few draws have all the weight.
    covariance = 1.2 * torch.cov(drawn.T).view(drawn.shape[1], -1)
    mean = drawn.mean(0).expand(PRIOR_ROWS, -1)
    factor = torch.linalg.cholesky(covariance).expand(PRIOR_ROWS, -1, -1)
    return log_normaliser(log_weights(prior_potential(model), mean, factor, PRIOR_DRAWS, generator).flatten())


def bounds(model: Any, x: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """log ∫ exp(−E(z) / T) p(x | z) dz / (2π)^{d/2}, bounded from below, of rows x, (B, L) -> (B,)."""
    prior = prior_potential(model)

    def potential(z: Tensor) -> Tensor:
        return prior(z) + model.generator.misfit(z, x)

    proposal = laplace_proposal(potential, model.infer(x, generator=generator))
    return importance_bound(log_weights(potential, *proposal, draws, generator))


def told_by_latents(model: Any, test: Tensor, generator: torch.Generator) -> dict[str, float]:
    """Nats per token given the z inferred of the sentence itself, and of the one before it: what z tells."""
    latents = torch.cat([model.infer(x, generator=generator) for x in test.split(BATCH)])
    tokens = model.space.counted(test).sum()
    pairs = {"own z": latents, "another's z": latents.roll(1, 0)}
    with torch.no_grad():
        return {name: (model.generator.misfit(z, test).sum() / tokens).item() for name, z in pairs.items()}


def counted_models(model: Any, training: Tensor, test: Tensor) -> dict[str, float]:
    """Nats per token of tokens by their frequency, alone and after the one before."""
    size, mask, seen = model.space.size, model.space.counted(test), model.space.counted(training)

    def pairs(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return torch.nn.functional.pad(x[:, :-2], (1, 0))[mask], x[:, :-1][mask]

    counts = torch.ones(size, size)
    counts.index_put_(pairs(training, seen), torch.ones(int(seen.sum())), accumulate=True)
    before, token = pairs(test, mask)
    alone = (counts.sum(0) / counts.sum()).log()[token]
    after = (counts / counts.sum(1, keepdim=True)).log()[before, token]
    return {"unigram": -alone.mean().item(), "bigram": -after.mean().item()}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the figures, and ten samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--n", type=int, default=1000, help="test sentences (default 1000)")
    parser.add_argument("--draws", type=int, default=100, help="K, draws per sentence (default 100)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    model, generator = from_pretrained(options.name), torch.Generator().manual_seed(options.seed)
    data = sentence_data(options.name, model)
    test = torch.cat(list(data.test_dataloader()))[: options.n]
    found = torch.cat([bounds(model, x, options.draws, generator) for x in test.split(BATCH)])
    constant, effective = prior_constant(model, generator)
    tokens = model.space.counted(test).sum(1)
    nll = (constant - found).sum() / tokens.sum()
    # Of a ratio of sums, over sentences.
    error = ((constant - found - nll * tokens).std() * len(test) ** 0.5 / tokens.sum()).item()
    print(f"{options.name}: {len(test)} test sentences, {int(tokens.sum())} tokens, ends included, K = {options.draws}")
    print(f"log Z of the prior at most {constant:.3f}, {effective:.0f} of {PRIOR_ROWS * PRIOR_DRAWS} draws effective")
    print(f"{'nats per token':24} {'at most':>9}")
    print(f"{'model':24} {nll:9.4f}   standard error {error:.4f}, {nll / math.log(2):.4f} bits")
    training = model.space.ids(data.sentences("train"))
    for name, value in (counted_models(model, training, test) | told_by_latents(model, test, generator)).items():
        print(f"{name:24} {value:9.4f}")
    print("\n".join(model.space.text(model.sample(10, generator=generator))))


if __name__ == "__main__":
    main()
