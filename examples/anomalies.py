"""The most unusual of MNIST's test images to models that never saw one digit: ``python examples/anomalies.py FOLDER``.

One row for each digit left out, 1, 4, 5, 7 and 9: the 20 images with the highest energy E(z), from the left.
"""

import sys
from pathlib import Path

import torch
from torchvision.utils import save_image

from ebm_zoo import from_pretrained
from ebm_zoo.callbacks import picture_grid
from ebm_zoo.data import LeftOutImageData

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)
rows = []
for digit in (1, 4, 5, 7, 9):
    data = LeftOutImageData("MNIST", left_out=digit, batch_size=500)
    data.prepare_data()
    data.setup("test")
    model = from_pretrained(f"latent_ebm/mnist_without_{digit}")
    torch.manual_seed(0)
    learned, left_out = (torch.cat(list(loader)) for loader in data.test_dataloader())
    images = torch.cat([learned, left_out])
    energies = torch.cat([model.latent_energy(part) for part in images.split(500)])
    highest = energies.topk(20).indices
    print(f"{digit}: {(highest >= len(learned)).sum().item()} of the 20 images are of the digit left out")
    rows.append(images[highest])
save_image(picture_grid(torch.cat(rows), -1.0, 1.0, columns=20), folder / "anomalies.png")
