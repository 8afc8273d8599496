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


class FashionClassifier(GreyClassifier):
    """The zoo's classifier of Fashion-MNIST, with the weights of ``classifier/fashion_mnist`` in the catalog.

    Raises:
        WeightsError: if the packaged weights are missing, truncated or altered.
    """

    name = "classifier/fashion_mnist"

    def __init__(self) -> None:
        super().__init__()
        _load(self)


class DigitsClassifier(GreyClassifier):
    """The zoo's classifier of scikit-learn's digits, with the weights of ``classifier/digits`` in the catalog.

    Images of any size are brought to 28×28 (bilinear) first, as in its training.

    Raises:
        WeightsError: if the packaged weights are missing, truncated or altered.
    """

    name = "classifier/digits"

    def __init__(self) -> None:
        super().__init__(width=16)
        _load(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Features in front of the head, **(B, 1, H, W) -> (B, 64)**."""
        return super().forward(nn.functional.interpolate(images, (28, 28), mode="bilinear", antialias=True))


class MnistClassifier(GreyClassifier):
    """The zoo's classifier of MNIST at 16×16, with the weights of ``classifier/mnist_16`` in the catalog.

    Raises:
        WeightsError: if the packaged weights are missing, truncated or altered.
    """

    name = "classifier/mnist_16"

    def __init__(self) -> None:
        super().__init__(width=16, size=16)
        _load(self)


class UspsClassifier(GreyClassifier):
    """The zoo's classifier of USPS digits, 16×16, with the weights of ``classifier/usps_16`` in the catalog.

    Raises:
        WeightsError: if the packaged weights are missing, truncated or altered.
    """

    name = "classifier/usps_16"

    def __init__(self) -> None:
        super().__init__(width=16, size=16)
        _load(self)


def _load(classifier: GreyClassifier) -> None:
    state = load(read_folder(WEIGHTS / classifier.name)[1])
    classifier.load_state_dict({key.removeprefix("network."): value for key, value in state.items()})
    classifier.eval().requires_grad_(False)
