"""Reading clips that a user gives a model of sequences, and writing those that it answers."""

from pathlib import Path

from torch import Tensor

from ebm_zoo.callbacks import picture_grid, write_gif
from ebm_zoo.cli.images import ARRAYS, read_values, write_images
from ebm_zoo.data.tensors import Fit
from ebm_zoo.data.video import read_video
from ebm_zoo.errors import DataError
from ebm_zoo.files import user_path
from ebm_zoo.space import Space

# Frames per second of an animation.
RATE = 10.0


def read_clips(place: str | Path, space: Space, side: int) -> tuple[Tensor, list[str]]:
    """Read clips for a model of sequences.

    Args:
        place: a folder with the frames of a clip, a GIF or video file, or .npy or .npz with (T, C, H, W) or
            (N, T, C, H, W) in the model's range.
        space: shape (T, C, H, W) and range of the model; T may be another.
        side: side H = W that frames are fitted to.

    Returns:
        Clips **(N, T, C, H, W)** in the model's range, and one name per clip.

    Raises:
        DataError: if nothing can be read, or what is read does not fit the model; names the file.
    """
    path, fit = user_path(place), Fit(side, space.shape[1])
    if path.suffix.lower() in ARRAYS:
        array = read_values(path, space)
        clips = array if array.dim() == 5 else array[None]
        if clips.dim() != 5:
            raise DataError(f"{path} has shape {tuple(array.shape)}: give (T, C, H, W) or (N, T, C, H, W).")
        clips = fit.sides(clips)
    elif path.exists():
        clips = space.low + (space.high - space.low) * fit(read_video(path))[None].float() / 255
    else:
        raise DataError(f"{path} does not exist.")
    try:
        Space((*clips.shape[1:2], space.shape[1], side, side), space.low, space.high).check(clips)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return clips, [path.name] if len(clips) == 1 else [f"{path.name}[{k}]" for k in range(len(clips))]


def write_clips(clips: Tensor, path: Path, target: Path, space: Space) -> None:
    """Write clips **(N, T, C, H, W)** to ``target`` in the format of ``path``.

    A .gif shows all clips beside one another, a .png has a row per clip; .npy and .npz are in the model's range.
    """
    if path.suffix.lower() == ".gif":
        pictures = (picture_grid(frame, space.low, space.high, side=112) for frame in clips.unbind(1))
        write_gif(pictures, target, RATE)
    elif path.suffix.lower() == ".png":
        write_images(clips.flatten(0, 1), path, target, space, clips.shape[1])
    else:
        write_images(clips, path, target, space)
