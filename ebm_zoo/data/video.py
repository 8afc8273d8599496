"""Two sets of image sequences of which no two belong together."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageSequence
from torch import Tensor
from torch.utils.data import Dataset

from ebm_zoo.data.files import decode, image_files, user_path
from ebm_zoo.data.tensors import Fit, require, require_range, to_range
from ebm_zoo.data.unpaired import TwoDomains
from ebm_zoo.errors import DataError

VIDEO_SUFFIXES = frozenset({".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


class Windows(Dataset):
    """Clips of equal length out of videos, **(T, C, H, W)** each, fetched a batch at a time.

    Args:
        videos: pixels, 0 to 255, **(N, C, H, W)** each.
        frames: T.
        stride: frames from the start of a clip to the start of the next.
        value_range: values of black and white.
        flip: probability that a clip is mirrored, drawn with torch's generator for each clip at each access.
    """

    def __init__(
        self,
        videos: list[Tensor],
        frames: int,
        stride: int,
        value_range: tuple[float, float],
        flip: float = 0.0,
    ) -> None:
        self.videos, self.frames, self.value_range, self.flip = videos, frames, value_range, flip
        self.places = [
            (k, start) for k, video in enumerate(videos) for start in range(0, len(video) - frames + 1, stride)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Float[Tensor, "t c h w"]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Float[Tensor, "b t c h w"]:
        places = [self.places[index] for index in indices]
        clips = torch.stack([self.videos[k][start : start + self.frames] for k, start in places])
        if self.flip > 0:
            chosen = torch.rand(len(clips)) < self.flip
            clips = torch.where(chosen[:, None, None, None, None], clips.flip(-1), clips)
        return to_range(clips, self.value_range)


class UnpairedVideoData(TwoDomains):
    """Batches (a, b) of clips of two domains, **(B, T, C, H, W)** each, float32 in a range of values.

    Training takes all clips of T consecutive frames, testing those of the last frames of each video, one behind the
    other. All videos are kept in memory, fitted: C bytes per pixel.

    Args:
        source: the videos of either domain: a folder with the frames of one as image files, a video file or an
            animated GIF, or a folder of such folders and files.
        frames: T, frames of a clip.
        size: side H = W of the square in pixels: the shorter side is resized to it, then the centre is cut out.
            None leaves all as they are; they must then be of one size.
        channels: C = 1 or 3, converted where needed.
        value_range: values of black and white.
        batch_size: B, clips of either domain per batch and rank.
        flip: probability that a clip is mirrored in training.
        test: part of each video, at its end, that is held back for testing.

    Raises:
        ConfigError: An argument is out of its range.
        DataError: A source is missing, empty or cannot be read, frames of a video or the domains are of several
            sizes, or a video is too short for a clip.
    """

    def __init__(
        self,
        source: tuple[str, str],
        *,
        frames: int,
        size: int | None = None,
        channels: int = 3,
        value_range: tuple[float, float] = (-1.0, 1.0),
        batch_size: int = 4,
        flip: float = 0.0,
        test: float = 0.2,
    ):
        super().__init__(batch_size)
        require(frames >= 1, f"frames is {frames}: give at least 1.")
        require(size is None or size >= 1, f"size is {size}: give at least 1 pixel.")
        require(channels in (1, 3), f"channels is {channels}: give 1 (grey) or 3 (RGB).")
        require_range(value_range)
        require(0 <= flip <= 1, f"flip is {flip}: give a probability, 0 to 1.")
        require(0 < test < 1, f"test is {test}: give a part, between 0 and 1.")
        for each in source:
            if not user_path(each).exists():
                raise DataError(
                    f"{each!r} is neither a folder nor a file: name a video, its frames, or a folder of them."
                )
        self.source, self.frames, self.size, self.channels = source, frames, size, channels
        self.value_range, self.flip, self.test = value_range, flip, test

    def setup(self, stage: str | None = None) -> None:
        """Read all videos, which every stage has its part of."""
        if self._train:
            return
        fit, domains = Fit(self.size, self.channels), []
        for source in self.source:
            domains.append([(path, fit(read_video(path))) for path in find_videos(user_path(source))])
        shapes = {tuple(pixels.shape[1:]): path for videos in domains for path, pixels in videos}
        if len(shapes) > 1:
            (first, one), (second, other) = list(shapes.items())[:2]
            raise DataError(f"{one} has frames of {first} (C, H, W), but {other} of {second}: set size.")
        parts = [[self._split(path, pixels) for path, pixels in videos] for videos in domains]
        self._train = tuple(
            Windows([train for train, _ in videos], self.frames, 1, self.value_range, self.flip) for videos in parts
        )
        self._test = tuple(
            Windows([test for _, test in videos], self.frames, self.frames, self.value_range) for videos in parts
        )

    def _split(self, path: Path, pixels: Tensor) -> tuple[Tensor, Tensor]:
        held = round(self.test * len(pixels))
        train, test = pixels[: len(pixels) - held], pixels[len(pixels) - held :]
        if min(len(train), len(test)) < self.frames:
            raise DataError(
                f"{path} has {len(train)} frames to train on and {len(test)} to test on, too few for clips of "
                f"{self.frames}: lower frames, change test, or leave it out."
            )
        return train, test


def find_videos(source: Path) -> list[Path]:
    """The videos of a source: a file; or the subfolders and video files of a folder, sorted; or the folder itself."""
    if source.is_file():
        return [source]
    inside = sorted(path for path in source.iterdir() if not path.name.startswith("."))
    return [path for path in inside if path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES] or [source]


def read_video(path: Path) -> UInt8[Tensor, "n c h w"]:
    """All frames of a video, 0 to 255, **(N, C, H, W)**, C = 1 or 3.

    Args:
        path: a folder of image files, which are the frames in sorted order; an animated GIF; or a video file, which is
            read by PyAV.

    Raises:
        DataError: There are no frames, one of another size than the first, or one that cannot be read; or PyAV is
            needed and missing.
    """
    if path.is_dir():
        return _frames(path)
    try:
        frames = _gif(path) if path.suffix.lower() == ".gif" else _film(path)
    except ImportError:
        raise DataError(
            f"{path} can only be read with PyAV, which is not installed: `pip install av`, or save its frames as "
            "images into a folder."
        ) from None
    except Exception as error:  # every decoder has exceptions of its own
        raise DataError(f"{path} is not a readable video ({error}): replace or delete the file.") from None
    if not frames:
        raise DataError(f"{path} has no frames: replace or delete the file.")
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()


def _frames(folder: Path) -> Tensor:
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder} has no frames: put the frames of a video into it as image files.")
    frames = [decode(path) for path in files]
    for path, frame in zip(files, frames, strict=True):
        if frame.shape != frames[0].shape:
            shapes = f"{tuple(frame.shape)} (C, H, W), but the first frame, {files[0]}, is {tuple(frames[0].shape)}"
            raise DataError(f"{path} is {shapes}: the frames of a video must be alike.")
    return torch.stack(frames)


def _gif(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        return [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def _film(path: Path) -> list[np.ndarray]:
    import av  # optional: only video files need it

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
