"""Extractors that need no download."""

from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor, nn

from ebm_zoo.files import WEIGHTS, read_folder
from ebm_zoo.metrics.features import GreyClassifier


class Pixels(nn.Module):
    """The pixels themselves, for images so small that they are features enough (8×8 digits)."""

    name = "pixels"

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Flatten images, **(B, C, H, W) -> (B, C·H·W)**."""
        return images.flatten(1)


class ShippedClassifier(GreyClassifier):
    """A classifier whose settings and weights ship in the package, under its name in the catalog.

    Raises:
        WeightsError: if they are missing, truncated or altered.
    """

    def __init__(self) -> None:
        config, weights, _ = read_folder(WEIGHTS / self.name)
        super().__init__(**config["init_args"]["network"]["init_args"])
        self.load_state_dict({key.removeprefix("network."): value for key, value in load(weights).items()})
        self.eval().requires_grad_(False)


class FashionClassifier(ShippedClassifier):
    """The zoo's classifier of Fashion-MNIST."""

    name = "classifier/fashion_mnist"


class DigitsClassifier(ShippedClassifier):
    """The zoo's classifier of scikit-learn's digits. Images of any size are brought to 28×28 (bilinear) first."""

    name = "classifier/digits"

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Features in front of the head, **(B, 1, H, W) -> (B, 64)**."""
        return super().forward(nn.functional.interpolate(images, (28, 28), mode="bilinear", antialias=True))


class MnistClassifier(ShippedClassifier):
    """The zoo's classifier of MNIST at 16×16."""

    name = "classifier/mnist_16"


class UspsClassifier(ShippedClassifier):
    """The zoo's classifier of USPS digits, 16×16."""

    name = "classifier/usps_16"
