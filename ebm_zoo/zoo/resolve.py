"""From the name of a model to its checked bytes: local copy, cache or Hub. No torch is imported here."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ebm_zoo.errors import CatalogError, WeightsError
from ebm_zoo.files import MAX_CONFIG, config_bytes, parse_config, read_checked, read_config, read_folder, user_path
from ebm_zoo.zoo.catalog import Entry, catalog, find
from ebm_zoo.zoo.client import Access, HubUnreachable, announced, cached, fetched, hub_error
from ebm_zoo.zoo.parts import COMMIT, REPO, Hub

Source = Literal["auto", "embedded", "hub"]
MAX_WEIGHTS = 2**32
"""Bytes of the weights, at most, of a repository that no catalog vouches for."""
# A branch, a tag, a commit or refs/pr/1; nothing that leads out of a folder.
REVISION = re.compile(r"(?!.*\.\.)\w[\w.-]*(/[\w-][\w.-]*)*", re.ASCII)


@dataclass(frozen=True)
class Target:
    """What a name stands for: a folder to read, a repository to ask, or the first before the second."""

    name: str
    folder: Path | None = None
    repo: str = ""
    revision: str = ""
    entry: Entry | None = None


@dataclass(frozen=True)
class Found:
    """A model whose bytes were checked.

    Attributes:
        place: folder, or repository and commit.
        config: the model's configuration, plain data.
        weights: the bytes that were hashed.
        sha256: their hash.
        path: their file.
        entry: what the catalog says of the model, if anything.
    """

    place: str
    config: Any
    weights: bytes = field(repr=False)
    sha256: str
    path: Path
    entry: Entry | None


def resolve(name: str | Path, *, source: Source = "auto", revision: str | None = None, access: Access) -> Found:
    """Find a model and check its bytes; see `from_pretrained` for what may be named.

    A weight file must have size and hash of its config.json, and of the catalog where the catalog pins the commit.

    Raises:
        CatalogError: for an unknown name.
        WeightsError: if nothing that fits is found; names repository or folder, and file.
    """
    target = interpret(name, source, revision)
    if target.folder is not None:
        try:
            return _local(target.folder, target.entry)
        except WeightsError:
            if not target.repo:
                raise
    return _from_hub(target, access)


def interpret(name: str | Path, source: Source = "auto", revision: str | None = None) -> Target:
    """Say what a name stands for, without looking further than the catalog and the disk.

    Raises:
        CatalogError: for an unknown name; the nearest names are suggested.
        WeightsError: if the name does not go with source or revision.
    """
    if source not in get_args(Source):
        raise WeightsError(f"source must be one of {', '.join(get_args(Source))}, not '{source}'.")
    text = str(name)
    stem, _, after = text.partition("@")
    if isinstance(name, str) and stem in catalog():
        return _of_catalog(catalog()[stem], source, _revision(text, after, revision))
    place = user_path(name)
    if isinstance(name, Path) or (text and place.is_dir()):
        if source == "hub" or revision is not None:
            raise WeightsError(f"{text} is a folder, not a repository: leave source and revision out.")
        return Target(text, folder=place)
    require_no_path(text)
    chosen = _revision(text, after, revision)
    family = stem.partition("/")[0] in {each.partition("/")[0] for each in catalog()}
    if source == "embedded" or not REPO.fullmatch(stem) or (family and not chosen and source == "auto"):
        find(stem)
    return Target(text, repo=stem, revision=chosen or "main")


def require_no_path(name: str) -> None:
    """Refuse what can be no name of catalog or Hub, but only the path of a folder, of which there is none.

    Raises:
        CatalogError: naming the folder that is missing.
        WeightsError: for a file.
    """
    stem = name.partition("@")[0]
    if name and user_path(name).is_file():
        raise WeightsError(f"{name} is a file: name the folder with config.json and model.safetensors.")
    if stem.startswith((".", "/", "~", "$")) or stem.endswith("/") or stem.count("/") > 1:
        raise CatalogError(f"There is no folder {name}. The zoo has no model named so either: check the path.")


def peek(name: str, access: Access) -> tuple[str, Any, str, int]:
    """Place, configuration, hash and size of a model in a folder or repository; its weights are not fetched."""
    target = interpret(name)
    if target.folder is not None:
        return (str(target.folder), *read_config(target.folder / "config.json"))
    commit, *rest = _config(target, access)
    return (f"{target.repo}@{commit}", *rest)


def _revision(text: str, after: str, given: str | None) -> str:
    if after and given not in (None, after):
        raise WeightsError(f"'{text}' and revision='{given}' name two revisions: give one.")
    chosen = after or given or ""
    if (chosen or given is not None or "@" in text) and not REVISION.fullmatch(chosen):
        raise WeightsError(f"'{chosen}' is no revision: give a branch, a tag or a full commit.")
    return chosen


def _of_catalog(entry: Entry, source: Source, revision: str) -> Target:
    if entry.hub is None:
        if source == "hub" or revision:
            raise WeightsError(
                f"{entry.name} is not on the Hub yet: leave source and revision out to load the copy in {entry.folder}."
            )
        return Target(entry.name, folder=entry.folder, entry=entry)
    if source == "embedded":
        if revision:
            raise WeightsError(f"The copy of {entry.name} in {entry.folder} has no revisions: leave it out.")
        return Target(entry.name, folder=entry.folder, entry=entry)
    folder = entry.folder if source == "auto" and not revision else None
    return Target(entry.name, folder, entry.hub.repo, revision or entry.hub.revision, entry)


def _local(folder: Path, entry: Entry | None) -> Found:
    config, weights, sha256 = read_folder(folder)
    if entry is not None and sha256 != entry.weights.sha256:
        raise WeightsError(
            f"{folder} holds weights with sha256 {sha256}, the catalog names {entry.weights.sha256}. Reinstall it."
        )
    return Found(str(folder), config, weights, sha256, folder / "model.safetensors", entry)


def _from_hub(target: Target, access: Access) -> Found:
    commit, config, sha256, size = _config(target, access)
    place, entry = f"{target.repo}@{commit}", target.entry
    if entry is not None and _pin(target) is not None:
        if (sha256, size) != (entry.weights.sha256, entry.weights.size):
            raise WeightsError(
                f"{place}: config.json names weights with sha256 {sha256} and {size} bytes, the catalog "
                f"{entry.weights.sha256} and {entry.weights.size}. Update the package, or report it: they must agree."
            )
    elif size > MAX_WEIGHTS:
        raise WeightsError(
            f"{place}: model.safetensors has {size} bytes, above the limit of {MAX_WEIGHTS} (MAX_WEIGHTS) for what no "
            "catalog names. Download it yourself and load the folder."
        )
    weights = _file(target, "model.safetensors", commit, range(size, size + 1), access)
    # The blob, not the link to it: removing the link alone would keep the altered bytes.
    blob = weights.resolve()
    try:
        data = read_checked(blob, sha256, size)
    except WeightsError as error:
        raise _again(error, target) from None
    return Found(place, config, data, sha256, blob, entry)


def _config(target: Target, access: Access) -> tuple[str, Any, str, int]:
    """Commit, and what its config.json says; the bytes that are read are those that are hashed."""
    path = _file(target, "config.json", target.revision, range(1, MAX_CONFIG + 1), access)
    data = config_bytes(path)
    found = {hashlib.sha256(data).hexdigest()}
    wanted: str | None
    if (hub := _pin(target)) is not None and hub.config is not None:
        wanted, kind = hub.config, "sha256"
    else:
        wanted, kind = _git_hash(path, target, access), "git hash"
        found.add(hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest())
    if wanted is not None and wanted not in found:
        shown = min(found, key=len)
        raise _again(WeightsError(f"{path.resolve()} has the {kind} {shown}, not {wanted}: it was altered."), target)
    return (path.parent.name, *parse_config(data, path))


def _git_hash(path: Path, target: Target, access: Access) -> str | None:
    """Hash of a file of the cache, as the Hub announced it: a link's end is named after it."""
    from huggingface_hub.file_download import are_symlinks_supported

    if path.is_symlink():
        return path.readlink().name
    try:
        linked = are_symlinks_supported(access.root)
    except OSError:  # a cache that nobody may write to can still be read
        linked = False
    if linked:
        raise _again(WeightsError(f"{path} is a file and not the client's link to one: it was replaced."), target)
    try:
        return announced(target.repo, path.name, path.parent.name, access).etag
    except HubUnreachable:
        return None


def _pin(target: Target) -> Hub | None:
    """What the catalog says of the very commit that is asked for."""
    hub = target.entry.hub if target.entry is not None else None
    return hub if hub is not None and hub.revision == target.revision else None


def _file(target: Target, file: str, revision: str, sizes: range, access: Access) -> Path:
    """Path in the cache: a commit's file is taken as it lies there, a branch is asked for first."""
    where = target.repo, file, revision, access
    path = None if access.force else cached(*where)
    if path is None or not (COMMIT.fullmatch(revision) or access.local_files_only):
        try:
            size = announced(*where).size
            if size not in sizes:
                wanted = f"{sizes[0]}" if len(sizes) == 1 else f"at most {sizes[-1]}"
                raise WeightsError(f"{target.repo}@{revision}: {file} has {size} bytes on the Hub, not {wanted}.")
            path = fetched(*where, sizes[-1])
        except HubUnreachable as error:
            # What a branch stood for when it could be asked is better than nothing.
            if path is None and target.entry is None:
                raise HubUnreachable(f"{error} There is no folder {target.repo} either.") from None
            if path is None:
                raise
    if COMMIT.fullmatch(revision) and path.parent.name != revision:
        raise WeightsError(f"{target.repo}@{revision}: the Hub answers with another commit, {path.parent.name}.")
    if access.root not in path.resolve().parents:
        raise WeightsError(f"{path} leads out of the cache, to {path.resolve()}: remove it.")
    return path


def _again(error: WeightsError, target: Target) -> WeightsError:
    return WeightsError(f"{error} `ebm-zoo download {target.name} --force` replaces it; in another cache, delete it.")


__all__ = ["Access", "CatalogError", "Found", "Source", "Target", "hub_error", "interpret", "peek", "resolve"]
