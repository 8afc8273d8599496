"""`ebm-zoo export`, `register` and `push`: from a training's checkpoint to the catalog and the Hub."""

import json
import os
from pathlib import Path
from typing import Any

from ebm_zoo.errors import CatalogError, ConfigError, WeightsError, ZooError, printable
from ebm_zoo.files import atomic, user_path
from ebm_zoo.fitting import build
from ebm_zoo.models import EnergyModel
from ebm_zoo.models.checkpoint import read_checkpoint
from ebm_zoo.zoo.catalog import VARIABLE, catalog
from ebm_zoo.zoo.hub import save_pretrained
from ebm_zoo.zoo.push import contents, push
from ebm_zoo.zoo.register import register

# Where a training's checkpoint keeps the weights: with averaging, the raw ones have a place of their own.
AVERAGED, RAW = "state_dict", "current_model_state"


def export_command(ckpt_path: str, out: str, weights: str | None) -> int:
    """Write the model of a training's checkpoint as a folder that loads anywhere."""
    checkpoint = read_checkpoint(user_path(ckpt_path))
    averaging = RAW in checkpoint
    if weights == "averaged" and not averaging:
        raise WeightsError(f"{ckpt_path} holds no averaged weights: its training had no EMAWeightAveraging. Take raw.")
    kind = weights or ("averaged" if averaging else "raw")
    try:
        config, step = checkpoint["ebm_zoo"]["config"], int(checkpoint["global_step"])
        tensors = checkpoint[RAW if averaging and kind == "raw" else AVERAGED]
    except (KeyError, TypeError, ValueError):
        raise WeightsError(f"{ckpt_path} lacks configuration, weights or step: it is no whole checkpoint.") from None
    model = build(config, tensors, ckpt_path, EnergyModel)
    folder = save_pretrained(model, out)
    _note(folder / "config.json", {"weights": kind, "global_step": step, **_classes(checkpoint)})
    print(printable(f"{folder}: {type(model).__name__}, {kind} weights after {step} steps"))
    return 0


def register_command(folder: str, name: str, summary: str) -> int:
    """Add a saved model to the user's catalog."""
    source = os.environ.get(VARIABLE)
    if not source:
        raise CatalogError(f"Which catalog? Name a file, made if missing, by --catalog FILE or in {VARIABLE}.")
    entry = register(folder, name, Path(source).expanduser(), summary)
    print(printable(f"{entry.source}: {name}, files in {entry.folder}"))
    return 0


def push_command(
    name: str | None, all: bool, repo: str | None, namespace: str | None, private: bool, create_pr: bool, dry_run: bool
) -> int:
    """Put models on the Hub; 1 if any fails."""
    failed = 0
    for each, place in _places(name, all, repo, namespace).items():
        try:
            if dry_run:
                _show(each, place)
            else:
                pushed = push(each, place, private=private, create_pr=create_pr)
                print(printable(f"{each}  {pushed.request or ('nothing to request' if create_pr else pushed.hub)}"))
        except ZooError as error:
            if not all:
                raise
            failed += 1
            print(printable(f"FAILED  {each}: {error}"))
    return 1 if failed else 0


def _classes(checkpoint: dict[str, Any]) -> dict[str, list[str]]:
    """Names of the classes by their numbers, where the data that the model learned from had any."""
    parts = [part for part in checkpoint.values() if isinstance(part, dict) and part.get("classes")]
    return {"classes": list(parts[0]["classes"])} if parts else {}


def _places(name: str | None, all: bool, repo: str | None, namespace: str | None) -> dict[str, str]:
    if name and repo and not all and not namespace:
        return {name: repo}
    if all and namespace and not name and not repo:
        own = Path(os.environ.get(VARIABLE) or "").expanduser().absolute()
        entries = list(catalog().values())
        # With a catalog of one's own, all means all of that one: the zoo's models are not the user's to push.
        mine = [entry for entry in entries if entry.source == own] or entries
        return {entry.name: f"{namespace}/{entry.name.replace('/', '-')}" for entry in mine}
    raise ConfigError(
        "Push one model, `push NAME --repo user/repo`, or all of a catalog, `push --all --namespace user`."
    )


def _show(name: str, repo: str) -> None:
    print(printable(f"{name} -> {repo}"))
    for file, content in contents(name, repo).items():
        print(printable(f"  {file:18} {len(content):>10,} bytes"))


def _note(path: Path, training: dict[str, Any]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    with atomic(path) as target:
        target.write_text(json.dumps({**config, "training": training}, indent=2) + "\n", encoding="utf-8")
