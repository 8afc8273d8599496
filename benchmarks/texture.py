"""How like its photograph a synthesised texture is: ``python -m benchmarks.texture generative_convnet/brick``.

Patches of 16×16 pixels of one synthesis, larger than the training crop, are compared with those of the photograph, and
for scale with those of the photograph after its Fourier phases were randomised: the same spectrum, no structure.
``--picture FILE`` draws photograph, synthesis and the random phases side by side.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn.functional import pad
from torchvision.utils import save_image

from ebm_zoo import from_pretrained
from ebm_zoo.callbacks import picture_grid
from ebm_zoo.data import TextureData
from ebm_zoo.files import atomic
from ebm_zoo.metrics import kernel_distance, precision_recall_density_coverage
from ebm_zoo.zoo import config_path

SIDE, STRIDE = 16, 4


def patches(image: torch.Tensor) -> torch.Tensor:
    """Overlapping patches of one image, (1, C, H, W) -> (n, C·16·16)."""
    return torch.nn.functional.unfold(image, SIDE, stride=STRIDE)[0].T


def random_phases(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """An image with the amplitudes of another and the phases of noise."""
    noise = torch.fft.fft2(torch.empty_like(image).normal_(generator=generator))
    return torch.fft.ifft2(torch.fft.fft2(image).abs() * noise / noise.abs()).real


def scores(real: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
    """Kernel distance, density and coverage of the patches of one image against another's."""
    a, b = patches(real), patches(other)
    b = b[torch.randperm(len(b), generator=torch.Generator().manual_seed(0))[: len(a)]]
    found = precision_recall_density_coverage(a, b)
    distance = kernel_distance(a, b, subsets=1, subset_size=len(a)).item()
    return {"patch_kernel_distance": distance, **{f"patch_{k}": found[k] for k in ("density", "coverage")}}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    settings: dict[str, Any] = yaml.safe_load(config_path(options.name).read_text())["data"]["init_args"]
    data = TextureData(**{**settings, "crop": None, "length": None})
    data.setup()
    photograph = next(iter(data.test_dataloader()))
    model, generator = from_pretrained(options.name), torch.Generator().manual_seed(options.seed)
    drawn = model.sample(1, shape=(len(photograph[0]), options.size, options.size), generator=generator)
    scrambled = random_phases(photograph, generator)
    rows = {"synthesis": scores(photograph, drawn), "random phases": scores(photograph, scrambled)}
    print(
        f"{options.name}: one {options.size}×{options.size} synthesis, {model.chain_length} steps, seed {options.seed}"
    )
    for name, row in rows.items():
        print(f"{name:14}", *(f"{key} {value:.4g}" for key, value in row.items()), sep="  ")
    if options.picture is not None:
        low, high = model.space.low, model.space.high
        tall = max(options.size, photograph.shape[-1])
        tiles = [
            pad(x, (0, tall - x.shape[-1], 0, tall - x.shape[-2]), value=high) for x in (photograph, drawn, scrambled)
        ]
        with atomic(options.picture) as target:
            save_image(picture_grid(torch.cat(tiles), low, high, 3, side=2 * tall), target)


if __name__ == "__main__":
    main()
