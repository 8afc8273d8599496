"""Figures and pictures of translations between two domains."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

from ebm_zoo.callbacks.pictures import Pictures, picture_grid, run_folder
from ebm_zoo.callbacks.scores import Outputs, unit
from ebm_zoo.errors import ConfigError
from ebm_zoo.files import atomic
from ebm_zoo.metrics import GreyClassifier, frechet_distance

DIRECTIONS = (("a", "b"), ("b", "a"))


class TranslationScores(Outputs):
    """Do translations look like their target domain, stay what they are, and find the way back?

    Logged for either direction, here from a to b: ``ab_frechet_distance`` of the translations to the target's test
    images, the same of the drafts (``ab_draft_frechet_distance``) and of the images before translation
    (``ab_untranslated_frechet_distance``); ``ab_cycle_error`` and ``ab_draft_cycle_error``, mean absolute error of
    translating there and back, in parts of the range. Where the target's judge classifies and the data have classes,
    ``ab_accuracy``, ``ab_draft_accuracy`` and ``ab_untranslated_accuracy``, and ``b_accuracy`` of its own test images,
    for scale. For sequences ``b_next_error`` of the predictor and ``b_copy_error`` of the last frame in its place, in
    parts of the range.

    Args:
        judge_a: features of images in domain a, in [0, 1] **(B, C, H, W) -> (B, D)**; a `GreyClassifier` also judges
            classes.
        judge_b: the same of domain b.
        samples: distances over at most this many images, of clips their frames.

    Raises:
        ConfigError: if there are fewer than 2 samples, or, when tested, for a model that does not translate both ways,
            or where classes are judged by several processes.
    """

    def __init__(self, judge_a: nn.Module, judge_b: nn.Module, samples: int = 5000) -> None:
        super().__init__()
        if samples < 2:
            raise ConfigError(f"TranslationScores needs 2 or more samples, not {samples}.")
        self.judge_a, self.judge_b, self.samples = judge_a.eval(), judge_b.eval(), samples

    @torch.no_grad()
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log."""
        scores: dict[str, Any] = {}
        for source, target in DIRECTIONS:
            judge: Any = self.judge_b if target == "b" else self.judge_a
            names = {"untranslated_": source, "draft_": f"{target}_drafts", "": f"{target}_samples"}
            features = {
                prefix: _features(judge, self._images(trainer, pl_module, name)) for prefix, name in names.items()
            }
            real = _features(judge, self._images(trainer, pl_module, target))
            way = f"{source}{target}"
            scores |= {f"{way}_{prefix}frechet_distance": frechet_distance(real, x) for prefix, x in features.items()}
            labels = self._labels(trainer) if isinstance(judge, GreyClassifier) else {}
            if labels:
                right = {f"{way}_{prefix}accuracy": (x, labels[source]) for prefix, x in features.items()}
                right[f"{target}_accuracy"] = (real, labels[target])
                for name, (x, classes) in right.items():
                    scores[name] = (judge.head(x).argmax(1) == classes[: len(x)]).float().mean()
            scores |= self._errors(trainer, pl_module, source, target)
        pl_module.log_dict({name: torch.as_tensor(value).float() for name, value in scores.items()}, sync_dist=False)

    def _images(self, trainer: Trainer, model: LightningModule, name: str) -> Tensor:
        images = self.gathered(trainer, f"{name}/0")
        if images is None:
            raise ConfigError("TranslationScores needs a model that translates between two domains: remove it.")
        # Of clips their frames.
        return unit(model, images.flatten(0, -4)[: self.samples])

    def _labels(self, trainer: Trainer) -> dict[str, Tensor]:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        labels = data.labels() if hasattr(data, "labels") else None
        if labels is None:
            return {}
        if trainer.world_size > 1:
            raise ConfigError("Classes of translations are judged by one process: set trainer.devices to 1.")
        return dict(zip("ab", labels, strict=True))

    def _errors(self, trainer: Trainer, model: LightningModule, source: str, target: str) -> dict[str, Tensor]:
        space: Any = model.space
        names = {
            f"{target}_cycle": f"{source}{target}_cycle_error",
            f"{target}_draft_cycle": f"{source}{target}_draft_cycle_error",
            f"{target}_next_error": f"{target}_next_error",
            f"{target}_copy_error": f"{target}_copy_error",
        }
        found = {shown: self.gathered(trainer, f"{name}/0") for name, shown in names.items()}
        return {name: x.mean() / (space.high - space.low) for name, x in found.items() if x is not None}


class TranslationPictures(Pictures):
    """As `Pictures`, of translations: images of a, their drafts and translations to b, and the same from b to a.

    Of clips the frames of the first one are drawn. Arguments as for `Pictures`.
    """

    def _asked(self, model: Any, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return model.predict_step(batch, 0)

    def _tiles(self, outputs: dict[str, Tensor]) -> tuple[Tensor, int]:
        names = [name for pair in DIRECTIONS for name in (pair[0], f"{pair[1]}_drafts", f"{pair[1]}_samples")]
        rows = [_frames(outputs[name])[: self.columns] for name in names if name in outputs]
        columns = min(map(len, rows), default=0)
        return torch.cat([row[:columns] for row in rows]) if rows else torch.empty(0), columns


class TranslatedClips(Outputs):
    """Writes the test clips of sequences as animations, one behind the other: given, drafts, translations side by side.

    The files are ``pictures/ab.gif`` and ``pictures/ba.gif`` in the run's folder.

    Args:
        rate: frames per second.

    Raises:
        ConfigError: unless the rate is above 0, or, when tested, for a model that does not translate clips.
    """

    def __init__(self, rate: float = 10.0) -> None:
        super().__init__()
        if not rate > 0:
            raise ConfigError(f"rate must be above 0, not {rate}.")
        self.rate = rate

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the animations."""
        space: Any = pl_module.space
        for source, target in DIRECTIONS:
            clips = [self.gathered(trainer, f"{name}/0") for name in (source, f"{target}_drafts", f"{target}_samples")]
            if any(clip is None or clip.dim() != 5 for clip in clips):
                raise ConfigError("TranslatedClips needs a model that translates clips: remove it.")
            if trainer.is_global_zero:
                # One picture of three per moment.
                moments = torch.stack([clip.flatten(0, 1) for clip in clips if clip is not None], 1)
                grids = (picture_grid(moment, space.low, space.high, 3, side=112) for moment in moments)
                with atomic(run_folder(trainer) / "pictures" / f"{source}{target}.gif") as path:
                    write_gif(grids, path, self.rate)


def write_gif(pictures: Iterator[Tensor], path: Path, rate: float) -> None:
    """Write pictures **(3, H, W)** in [0, 1] as an animation that goes on for ever, at ``rate`` frames per second."""
    frames: list[Image.Image] = [to_pil_image(picture) for picture in pictures]
    frames[0].save(
        path, format="GIF", save_all=True, append_images=frames[1:], duration=round(1000 / rate), loop=0, optimize=False
    )


def _frames(x: Tensor) -> Tensor:
    return x[0] if x.dim() == 5 else x


def _features(judge: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([judge(part) for part in images.split(500)])
