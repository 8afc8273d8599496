"""Time of a learning iteration: ``python -m benchmarks.iteration NAME OTHER``.

Iterations of the models take turns on noise of the data's shape, in bfloat16 as the configurations train, in one
process, so that all see the same machine. Printed are the medians, and the time of all updates that each configuration
asks for, as ratios to the first model's.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
import yaml

from ebm_zoo import from_pretrained
from ebm_zoo.zoo import config_path


def iteration(model: Any, batch: Any, optimizer: torch.optim.Optimizer) -> None:
    """One update of all networks."""
    with torch.autocast(batch[0].device.type, torch.bfloat16):
        loss = torch.stack(list(model.losses(batch if len(batch) > 1 else batch[0]).values())).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def prepared(name: str) -> tuple[Any, Any, torch.optim.Optimizer, int]:
    """A trained model in learning, a batch as its data have it, an optimiser, and the updates asked for."""
    config = yaml.safe_load(config_path(name).read_text())
    model = from_pretrained(name).train()
    n, space = config["data"]["init_args"]["batch_size"], model.space
    batch = [torch.rand(n, *space.shape) * (space.high - space.low) + space.low]
    if hasattr(model, "condition"):
        batch.append(torch.arange(n) % model.condition.count)
    return model, batch, torch.optim.Adam(model.parameters(), lr=1e-4), config["trainer"]["max_steps"]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--iterations", type=int, default=30)
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    models = {name: prepared(name) for name in options.names}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for k in range(options.iterations + 3):
        for name, (model, batch, optimizer, _) in models.items():
            start = time.perf_counter()
            iteration(model, batch, optimizer)
            if k >= 3:
                taken[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    first = options.names[0]
    print(f"{options.iterations} iterations each, {torch.get_num_threads()} thread(s)")
    print(f"{'model':36} {'ms':>8} {'ratio':>7} {'updates':>8} {'ratio of all':>13}")
    for name, (*_, updates) in models.items():
        whole = medians[name] * updates / (medians[first] * models[first][-1])
        print(f"{name:36} {medians[name] * 1e3:8.1f} {medians[name] / medians[first]:7.2f} {updates:8} {whole:13.2f}")


if __name__ == "__main__":
    main()
