"""Quality of fresh chains against their length: ``python -m benchmarks.chain_length NAME --steps 10 20 40 80``.

One set of chains is followed; at each asked length the samples so far are compared with the test images of the data
set that the model's configuration names. Length 0 is where chains start: noise, or a cooperative model's drafts.
Features are those of the shipped classifier for Fashion-MNIST, else pixels; ``--features FILE`` takes SqueezeNet's.
``--picture FILE`` draws eight chains at these lengths, one column each.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import yaml
from torchvision.utils import save_image

from ebm_zoo import from_pretrained
from ebm_zoo.callbacks import picture_grid
from ebm_zoo.data import ImageData
from ebm_zoo.files import atomic
from ebm_zoo.metrics import FashionClassifier, Pixels, SqueezeNet, frechet_distance
from ebm_zoo.zoo import config_path

BATCH = 100


def follow(model: Any, n: int, lengths: list[int], seed: int) -> dict[int, torch.Tensor]:
    """States of n fresh chains at each length, {length: (n, C, H, W)}."""
    generator = torch.Generator().manual_seed(seed)
    kept: dict[int, list[torch.Tensor]] = {length: [] for length in lengths}

    def keep(k: int, x: torch.Tensor) -> None:
        if k in kept:
            kept[k].append(x.clone())

    for done in range(0, n, BATCH):
        if 0 in kept:
            state = generator.get_state()
            keep(0, model.sample(min(BATCH, n - done), steps=0, generator=generator))
            generator.set_state(state)
        model.sample(min(BATCH, n - done), steps=max(lengths), generator=generator, on_step=keep)
    return {length: torch.cat(parts) for length, parts in kept.items()}


def conditions(model: Any, n: int) -> tuple[torch.Tensor, ...]:
    """The classes that n samples were drawn for, if the model knows classes."""
    return (torch.arange(n) % model.condition.count,) if hasattr(model, "condition") else ()


def test_images(name: str, n: int) -> torch.Tensor:
    """The first n test images of a configuration's data set."""
    settings = yaml.safe_load(config_path(name).read_text())["data"]["init_args"]
    settings = {key: value for key, value in settings.items() if key != "outliers"}
    data = ImageData(**settings)
    data.prepare_data()
    data.setup("test")
    return torch.cat(list(data.predict_dataloader()))[:n]


def extractor(shape: tuple[int, ...], file: str | None) -> Any:
    """The network whose features are compared, for images of a shape."""
    if file is not None:
        return SqueezeNet(file)
    return FashionClassifier() if shape == (1, 28, 28) else Pixels()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 40, 80, 160])
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", help="file of SqueezeNet's weights")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    model = from_pretrained(options.name)
    space = model.space
    network = extractor(tuple(space.shape), options.features)

    def features(x: torch.Tensor) -> torch.Tensor:
        parts = ((x - space.low) / (space.high - space.low)).clamp(0, 1).split(BATCH)
        return torch.cat([network(part) for part in parts])

    with torch.no_grad():
        real = features(test_images(options.name, options.n))
        chains = follow(model, options.n, sorted(set(options.steps)), options.seed)
        print(f"{options.name}: {options.n} fresh chains, {len(real)} test images, features {network.name}")
        print(f"{'steps':>6} {'Fréchet distance':>18} {'mean energy':>12}")
        for length, x in chains.items():
            energy = torch.cat([model.energy(part, *conditions(model, len(part))) for part in x.split(BATCH)]).mean()
            print(f"{length:6} {frechet_distance(real, features(x)):18.3f} {energy:12.3f}")
    if options.picture is not None:
        columns = torch.stack([x[:8] for x in chains.values()], dim=1).flatten(0, 1)
        with atomic(options.picture) as target:
            save_image(picture_grid(columns, space.low, space.high, len(chains)), target)


if __name__ == "__main__":
    main()
