"""How well a model rebuilds test images: ``python -m benchmarks.reconstruction NAME --n 256``.

Printed is the mean squared error per value of the first n test images of the data set that the model's configuration
names, in the units of its space, beside that of the mean of these images in the place of each.
"""

import argparse
from collections.abc import Sequence

import torch

from benchmarks.chain_length import test_images
from ebm_zoo import from_pretrained

BATCH = 64


def main(argv: Sequence[str] | None = None) -> None:
    """Print both errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=100, help="steps of the search for each latent vector")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    torch.manual_seed(options.seed)
    model = from_pretrained(options.name)
    images = test_images(options.name, options.n)
    rebuilt = torch.cat([model.reconstruct(part, iterations=options.iterations) for part in images.split(BATCH)])
    space = model.space
    values = f"values in [{space.low:g}, {space.high:g}]"
    print(f"{options.name}: {len(images)} test images, {values}, {options.iterations} iterations")
    print(f"reconstruction {(rebuilt - images).square().mean():10.5f}")
    print(f"mean image     {(images - images.mean(0)).square().mean():10.5f}")


if __name__ == "__main__":
    main()
