"""Putting a model on the Hugging Face Hub, and its place there into the catalog."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from ebm_zoo.errors import WeightsError
from ebm_zoo.files import config_bytes, parse_config, read_checked, user_path
from ebm_zoo.zoo.card import SAMPLES, card, write_card
from ebm_zoo.zoo.catalog import Entry, catalog, find
from ebm_zoo.zoo.client import asking
from ebm_zoo.zoo.edit import pin, require_editable
from ebm_zoo.zoo.hub import build_model
from ebm_zoo.zoo.parts import REPO, Hub
from ebm_zoo.zoo.register import described
from ebm_zoo.zoo.resolve import require_no_path


@dataclass(frozen=True)
class Pushed:
    """Where a model lies now: repository and commit, or the pull request that would put it there."""

    hub: Hub
    request: str | None


def contents(name_or_path: str | Path, repo: str) -> dict[str, bytes]:
    """What a repository of a model holds.

    Args:
        name_or_path: a name of the catalog, or a folder that `save_pretrained` wrote. A folder's own README.md is
            taken if there is one; otherwise the card is made.
        repo: the repository, ``user/name``.

    Returns:
        Bytes by file name, checked against their hashes: config.json, model.safetensors, README.md, and
        samples.png, samples.gif and samples.txt if there are any.

    Raises:
        WeightsError: if the repository's name is none, or the local files are missing or altered, or do not load.
        CatalogError: for an unknown name.
    """
    if REPO.fullmatch(repo) is None:
        raise WeightsError(f"'{repo}' is no repository: name it user/name.")
    folder, entry = _local(name_or_path)
    settings = config_bytes(folder / "config.json")
    config, sha256, size = parse_config(settings, folder / "config.json")
    weights = read_checked(folder / "model.safetensors", sha256, size)
    if entry is not None and sha256 != entry.weights.sha256:
        raise WeightsError(
            f"{folder} holds weights with sha256 {sha256}, the catalog names {entry.weights.sha256}: mend one of them."
        )
    # The model that others would load: its weights fit, and are finite.
    build_model(config, weights, str(folder))
    files = {"config.json": settings, "model.safetensors": weights}
    own = folder / "README.md"
    if entry is None and own.is_file():
        files["README.md"] = own.read_bytes()
    else:
        about = entry or described(folder, folder.resolve().name)
        files["README.md"] = card(about, repo, folder).encode("utf-8")
    samples = {name: folder / name for name in SAMPLES if (folder / name).is_file()}
    return files | {name: path.read_bytes() for name, path in samples.items()}


def push(name_or_path: str | Path, repo: str, *, private: bool = False, create_pr: bool = False) -> Pushed:
    """Put a model into a repository of the Hub, in one commit, as the user whose token the client finds.

    The repository is made if missing. A model of a catalog then has repository, commit and the hash of its config.json
    in its catalog file, and a new card. Where nothing has changed no commit is made, and the newest one counts.

    Args:
        name_or_path: a name of the catalog, or a folder that `save_pretrained` wrote.
        repo: the repository, ``user/name``.
        private: make the repository a private one. One that is public already is refused.
        create_pr: open a pull request instead; the catalog stays as it is.

    Returns:
        Where the model lies now.

    Raises:
        CatalogError: if the catalog could not be written to; nothing is sent then.
        WeightsError: if the local files are missing or altered, or the Hub refuses or does not answer.
    """
    files = contents(name_or_path, repo)
    entry = _local(name_or_path)[1]
    if entry is not None and not create_pr:
        require_editable(entry)
    commit = _send(files, repo, private, create_pr)
    pushed = Pushed(Hub(repo, commit.oid, hashlib.sha256(files["config.json"]).hexdigest()), commit.pr_url)
    if entry is not None and not create_pr:
        pin(entry, pushed.hub)
        write_card(find(entry.name))
    return pushed


def _local(name_or_path: str | Path) -> tuple[Path, Entry | None]:
    known = isinstance(name_or_path, str) and name_or_path in catalog()
    if not known and (folder := user_path(name_or_path)).is_dir():
        return folder, None
    if not known:
        require_no_path(str(name_or_path))
    entry = find(str(name_or_path))
    return entry.folder, entry


def _send(files: dict[str, bytes], repo: str, private: bool, create_pr: bool) -> CommitInfo:
    api, what = HfApi(library_name="ebm_zoo"), f"Cannot push to {repo}"
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    with asking(what):
        if not create_pr:
            api.create_repo(repo, private=private or None, exist_ok=True)
        # The client keeps quiet about a repository that is there already and is not private.
        if private and not api.model_info(repo).private:
            raise WeightsError(f"{what}: it is there already and is public. Make it private, or choose another name.")
        try:
            return api.create_commit(repo, operations, commit_message="Add model", create_pr=create_pr)
        except RuntimeError as error:
            # So the client wraps what went wrong with a large file.
            raise error.__cause__ or OSError() from None
        except ValueError as error:
            if isinstance(error, HfHubHTTPError):
                raise
            raise WeightsError(f"{what}: the Hub refuses README.md, {' '.join(str(error).split()):.300}") from None
