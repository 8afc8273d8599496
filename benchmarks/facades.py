"""Conditional CoopNets on facades: ``python -m benchmarks.facades NAME --regression FOLDER --features FILE``.

Mean absolute error and Fréchet distance over SqueezeNet features, on the test pairs, of

- the mean training photograph, which answers every question alike;
- the same generator trained by plain regression, L1 alone and no energy: a model saved to FOLDER, see
  docs/coopnets.md for its command;
- the model's drafts, and its solutions;
- as many training photographs, which belong to other questions, for scale.

``--picture FILE`` draws questions, regression, drafts, solutions and truths below one another.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import save_image

from benchmarks.chain_length import BATCH
from ebm_zoo import from_pretrained
from ebm_zoo.callbacks import picture_grid
from ebm_zoo.data import PairedImageData
from ebm_zoo.files import atomic
from ebm_zoo.metrics import SqueezeNet, frechet_distance


def answered(model: Any, questions: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Drafts and solutions, one to each question."""
    generator = torch.Generator().manual_seed(seed)
    parts = [model.predict(part, generator=generator) for part in questions.split(BATCH)]
    drafts, solutions = (torch.cat([part[k] for part in parts])[:, 0] for k in (0, 1))
    return drafts, solutions


def pairs(source: str, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training photographs, test photographs and their labels."""
    data = PairedImageData(source, size=size, batch_size=BATCH)
    data.setup()
    photographs = torch.cat([photographs for photographs, _ in data.train_dataloader()])
    tests = list(data.test_dataloader())
    return photographs, torch.cat([photograph for photograph, _ in tests]), torch.cat([label for _, label in tests])


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--regression", type=Path, required=True, help="folder of the model trained by regression")
    parser.add_argument("--source", default="$EBM_ZOO_DATA/facades")
    parser.add_argument("--features", default="$EBM_ZOO_DATA/squeezenet_imagenet/squeezenet1_0_deepcompressed.npz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)  # the order of the training photographs
    model, regression = from_pretrained(options.name), from_pretrained(options.regression)
    training, truth, questions = pairs(os.path.expandvars(options.source), model.space.shape[-1])
    drafts, solutions = answered(model, questions, options.seed)
    answers = {
        "mean photograph": training.mean(0, keepdim=True).expand_as(truth),
        "regression": answered(regression, questions, options.seed)[0],
        "draft": drafts,
        "solution": solutions,
        "training photographs": training[: len(truth)],
    }
    network = SqueezeNet(options.features)

    @torch.no_grad()
    def features(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([network(part.clamp(-1, 1) / 2 + 0.5) for part in x.split(BATCH)])

    real = features(truth)
    print(f"{options.name}: {len(truth)} test pairs, features {network.name}, errors in parts of the range")
    print(f"{'answer':22} {'absolute error':>15} {'Fréchet distance':>18}")
    for name, x in answers.items():
        print(f"{name:22} {(x - truth).abs().mean() / 2:15.4f} {frechet_distance(real, features(x)):18.0f}")
    if options.picture is not None:
        rows = [questions, answers["regression"], drafts, solutions, truth]
        with atomic(options.picture) as target:
            save_image(picture_grid(torch.cat([row[:8] for row in rows]), -1, 1, side=64), target)


if __name__ == "__main__":
    main()
