"""Feature extractors: images in [0, 1] to features, each with the name to write beside its figures."""

import io
import pickle

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.hub import load_state_dict_from_url
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

from ebm_zoo.errors import DataError, WeightsError

# Pictures rescaled from [-1, 1] miss [0, 1] by rounding; a quarter of a grey level changes no pixel.
_SLACK = 1e-3


class Inception(nn.Module):
    """The 2048 pool features of the Inception-v3 network of the original FID, in torch-fidelity's form.

    Args:
        weights: Local weight file; None takes torch-fidelity's, downloaded once (96 MB) to torch.hub's cache.

    Raises:
        WeightsError: The weights can be neither downloaded nor read, or belong to another network.

    References:
        Rethinking the Inception Architecture for Computer Vision, Szegedy, Vanhoucke, Ioffe, Shlens, Wojna,
        2015. https://arxiv.org/abs/1512.00567
        High-fidelity performance metrics for generative models in PyTorch, Obukhov, Seitzer, Wu, Zhydenko,
        Kyl, Lin, 2020. https://github.com/toshas/torch-fidelity

    Notes:
        torch-fidelity unpickles its weights unrestricted; here only tensors are unpickled, and a download has
        to match the hash in its name.
    """

    name = "inception-v3-compat"

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        try:
            self.network = FeatureExtractorInceptionV3(
                self.name, ["2048"], feature_extractor_weights_path=_inception_weights(weights)
            )
        except (OSError, EOFError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0]
            raise WeightsError(
                f"The Inception weights cannot be loaded from {weights or URL_INCEPTION_V3} ({reason}): "
                f"fetch {URL_INCEPTION_V3} by other means and give that file as `weights`."
            ) from error

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 2048"]:
        """Features of the images, rounded to 8 bits and resized to 299 x 299; grey ones are repeated to RGB.

        Args:
            images: Images in [0, 1], shape (B, 1 or 3, H, W).

        Returns:
            Features, shape (B, 2048).

        Raises:
            DataError: The images have another channel count or values out of [0, 1].
        """
        _check_range(images)
        if images.shape[1] not in (1, 3):
            raise DataError(f"Inception sees grey or RGB images, not {images.shape[1]} channels: convert them.")
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        return self.network(pixels.expand(-1, 3, -1, -1))[0]


class GreyClassifier(nn.Module):
    """A small classifier of grey images, whose features judge the models of such images.

    Five 3 x 3 convolutions with batch norm and ReLU, the second and fourth of stride 2, the mean over the
    image, and a linear head.

    Args:
        classes: Number of classes.
        width: Channels of the first two convolutions; the next two have twice, the last four times as many.
        size: Side of the images.
    """

    name = "grey_classifier"

    def __init__(self, classes: int = 10, width: int = 32, size: int = 28) -> None:
        super().__init__()
        self.classes = classes
        self.width = width
        self.size = size
        self.blocks = nn.Sequential(
            _block(1, width, 1),
            _block(width, width, 2),
            _block(width, 2 * width, 1),
            _block(2 * width, 2 * width, 2),
            _block(2 * width, 4 * width, 1),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Features in front of the head.

        Args:
            images: Images in [0, 1], shape (B, 1, size, size).

        Returns:
            Features, shape (B, 4 width).

        Raises:
            DataError: The images have another size, another channel count or values out of [0, 1].
        """
        if images.shape[1:] != (1, self.size, self.size):
            given, seen = tuple(images.shape[1:]), (1, self.size, self.size)
            raise DataError(f"GreyClassifier sees {seen} images, not {given}: resize them.")
        _check_range(images)
        return self.blocks(2 * images - 1).mean((2, 3))

    def logits(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Class scores before the softmax, shape (B, classes); arguments and errors as in `forward`."""
        return self.head(self(images))


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())


def _check_range(images: Tensor) -> None:
    # NaN compares false with everything and is caught too.
    if not ((images >= -_SLACK) & (images <= 1 + _SLACK)).all():
        raise DataError("The images hold values out of [0, 1] or NaN: rescale or clamp them to [0, 1] first.")


def _inception_weights(weights: str | None) -> io.BytesIO:
    """Read the weights as tensors only and write them anew, so that the network unpickles nothing foreign."""
    if weights is None:
        state = load_state_dict_from_url(URL_INCEPTION_V3, map_location="cpu", check_hash=True, weights_only=True)
    else:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
