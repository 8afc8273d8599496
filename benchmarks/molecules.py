"""Are samples molecules: ``python -m benchmarks.molecules latent_ebm/qm9 --n 10000 --picture properties.png``.

Printed are validity, uniqueness and novelty of samples, as ``ebm_zoo.metrics.molecule_scores`` defines them, and for
scale the same of the test molecules; and how far QED and logP of the samples are distributed from those of the test
molecules (mean difference of equal quantiles), beside the distance of the training molecules. ``--picture FILE`` draws
both distributions. Needs RDKit: ``pip install ebm-zoo[molecules]``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from benchmarks.text import BATCH, sentence_data
from ebm_zoo import from_pretrained
from ebm_zoo.files import atomic
from ebm_zoo.metrics import molecule_properties, molecule_scores

NAMES = ("QED", "logP")
WIDTH, HEIGHT, MARGIN, BINS = 480, 300, 32, 60
DATA, SAMPLES = (150, 150, 150), (200, 60, 30)


def quantile_distance(a: Tensor, b: Tensor) -> float:
    """Mean difference of equal quantiles of two sets of numbers: the Wasserstein distance of order one."""
    places = (torch.arange(1000, dtype=a.dtype) + 0.5) / 1000
    return (a.quantile(places) - b.quantile(places)).abs().mean().item()


def panel(draw: ImageDraw.ImageDraw, left: int, name: str, real: Tensor, drawn: Tensor) -> None:
    """One property: the data's distribution filled, the samples' as a line."""
    both = torch.cat([real, drawn])
    low, high = (both.quantile(q).item() for q in (0.001, 0.999))
    shares = [x.histc(BINS, low, high) / len(x) for x in (real, drawn)]
    top, step, floor = max(s.max().item() for s in shares), (WIDTH - 2 * MARGIN) / BINS, HEIGHT - MARGIN
    heights = [[floor - (floor - MARGIN) * value / top for value in s.tolist()] for s in shares]
    for k, y in enumerate(heights[0]):
        draw.rectangle((left + MARGIN + k * step, y, left + MARGIN + (k + 1) * step, floor), fill=DATA)
    corners = [(left + MARGIN + x * step, y) for k, y in enumerate(heights[1]) for x in (k, k + 1)]
    draw.line(corners, fill=SAMPLES, width=2)
    draw.text((left + MARGIN, floor + 8), f"{low:.2f}", fill="black")
    draw.text((left + WIDTH - MARGIN, floor + 8), f"{high:.2f}", fill="black", anchor="ra")
    draw.text((left + WIDTH / 2, floor + 8), name, fill="black", anchor="ma")


def picture(real: Tensor, drawn: Tensor) -> Image.Image:
    """Distributions of the properties (n, 2) of test molecules, in grey, and of samples, as a line."""
    image = Image.new("RGB", (WIDTH * len(NAMES), HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    for k, name in enumerate(NAMES):
        panel(draw, k * WIDTH, name, real[:, k], drawn[:, k])
    draw.text((MARGIN, 8), "test molecules", fill=DATA)
    draw.text((MARGIN + 120, 8), "samples", fill=SAMPLES)
    return image


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--n", type=int, default=10_000, help="samples (default 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args(argv)
    model, generator = from_pretrained(options.name), torch.Generator().manual_seed(options.seed)
    data = sentence_data(options.name, model)
    training, test = data.sentences("train"), data.sentences("test")[: options.n]
    sizes = [min(BATCH, options.n - done) for done in range(0, options.n, BATCH)]
    drawn = [line for k in sizes for line in model.space.text(model.sample(k, generator=generator))]
    rows = {"samples": molecule_scores(drawn, training), "test molecules": molecule_scores(test, training)}
    print(f"{options.name}: {len(drawn)} samples, {len(training)} training and {len(test)} test molecules")
    for name, row in rows.items():
        print(f"{name:20}", *(f"{key} {value:.4f}" for key, value in row.items()), sep="  ")
    some = torch.randperm(len(training), generator=torch.Generator().manual_seed(0))[: options.n].tolist()
    real, known, fake = (molecule_properties(lines) for lines in (test, [training[k] for k in some], drawn))
    print("distance to the test molecules")
    for name, x in (("samples", fake), ("training molecules", known)):
        print(f"{name:20}", *(f"{key} {quantile_distance(x[:, k], real[:, k]):.4f}" for k, key in enumerate(NAMES)))
    if options.picture is not None:
        with atomic(options.picture) as target:
            picture(real, fake).save(target)


if __name__ == "__main__":
    main()
