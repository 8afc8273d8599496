"""Samples, energies and inpainting from a trained model, as pictures: ``python examples/quickstart.py OUT_FOLDER``."""

import sys
from pathlib import Path

import torch
from torchvision.utils import save_image

from ebm_zoo import from_pretrained
from ebm_zoo.callbacks import picture_grid

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)

model = from_pretrained("generative_convnet/fashion_mnist")
images = model.sample(16)
with torch.no_grad():
    print("energies of samples:", model.energy(images).mean().item())
    print("energies of noise:  ", model.energy(torch.rand_like(images) * 2 - 1).mean().item())

known = torch.ones(28, 28)
known[14:] = 0  # the lower half is to be filled in
filled = model.inpaint(images, known)
rows = torch.cat([images, torch.where(known.bool(), images, torch.full_like(images, -1.0)), filled])
save_image(picture_grid(rows, model.space.low, model.space.high, columns=16), folder / "inpainting.png")
print(folder / "inpainting.png")
