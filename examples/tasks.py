"""Reconstruction, inpainting, interpolation of test images, as one picture: ``python examples/tasks.py FOLDER NAME``.

NAME is a model of Fashion-MNIST without classes; generative_convnet/fashion_mnist unless given.
"""

import sys
from pathlib import Path

import torch
from torchvision.utils import save_image

from ebm_zoo import from_pretrained
from ebm_zoo.callbacks import picture_grid
from ebm_zoo.data import ImageData

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
name = sys.argv[2] if len(sys.argv) > 2 else "generative_convnet/fashion_mnist"
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)

data = ImageData("FashionMNIST")
data.prepare_data()
data.setup("test")
images = next(iter(data.predict_dataloader()))[:8]

model = from_pretrained(name)
# Adam searches the latent vectors; models that infer them by Langevin dynamics have their own number of steps.
search = {} if "infer" in model.tasks else {"iterations": 60}
rebuilt = model.reconstruct(images, **search)
known = torch.ones(28, 28)
known[14:] = 0
halves = torch.where(known.bool(), images, torch.tensor(-1.0))
filled = model.inpaint(images, known)
walks = model.interpolate(images[:2], images[2:4], 8, **search).flatten(0, 1)
print("mean squared error of the reconstructions:", (rebuilt - images).square().mean().item())

rows = torch.cat([images, rebuilt, halves, filled, walks])
save_image(picture_grid(rows, model.space.low, model.space.high), folder / "tasks.png")
