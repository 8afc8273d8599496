"""Single files of the Hugging Face Hub, through its own client and cache, with one clear error for what goes wrong.

The client is imported when it is needed: listing the catalog and loading a local copy do without it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ebm_zoo.errors import WeightsError
from ebm_zoo.zoo.limits import BUSY, MAX_ANSWER, TRIES, GaveUp, TooMuch, limited

WAITS = (0.5, 1.5)
"""Seconds between tries."""
TIMEOUT = 4.0
"""Seconds to wait for an answer; the environment variable HF_HUB_ETAG_TIMEOUT wins."""
LOGIN = "log in (`hf auth login`) or set HF_TOKEN"


class HubUnreachable(WeightsError):
    """The Hub does not answer, or may not be asked: what is cached is all there is."""


@dataclass(frozen=True)
class Access:
    """How the Hub may be asked.

    Args:
        cache_dir: folder of the cache; the client's own (HF_HOME) unless given.
        token: of an account; the client's own (HF_TOKEN, `hf auth login`) unless given. It is never shown.
        local_files_only: ask nothing, take what is cached.
        force: fetch again what is cached.
    """

    cache_dir: str | Path | None = None
    token: str | bool | None = field(default=None, repr=False)
    local_files_only: bool = False
    force: bool = False

    @property
    def root(self) -> Path:
        """Folder of the cache."""
        from huggingface_hub import constants

        return Path(self.cache_dir or constants.HF_HUB_CACHE).expanduser().resolve()


def cached(repo: str, file: str, revision: str, access: Access) -> Path | None:
    """A file as far as the cache knows it: the one of a commit, or of the commit that a branch stood for last."""
    from huggingface_hub import try_to_load_from_cache

    with asking(f"{repo}@{revision}, {file}"):
        found = try_to_load_from_cache(repo, file, cache_dir=access.root, revision=revision)
    return Path(found) if isinstance(found, str) else None


def announced(repo: str, file: str, revision: str, access: Access) -> Any:
    """What the Hub says of a file, without its content.

    Returns:
        ``commit_hash``, ``size`` in bytes, ``etag`` (the sha256 of a large file).

    Raises:
        HubUnreachable: if the Hub does not answer or may not be asked.
        WeightsError: if it refuses.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    what = f"{repo}@{revision}, {file}"
    if access.local_files_only:
        raise HubUnreachable(f"{what}: not in the cache {access.root}, and local_files_only forbids to ask the Hub.")
    own = constants.HF_HUB_ETAG_TIMEOUT
    timeout = TIMEOUT if own == constants.DEFAULT_ETAG_TIMEOUT else own
    with asking(what):
        url, found = hf_hub_url(repo, file, revision=revision), None
        for wait in (*WAITS, None):
            try:
                found = get_hf_file_metadata(url, token=access.token, timeout=timeout)
                break
            except HfHubHTTPError as error:
                if wait is None or error.response.status_code not in BUSY:
                    raise
                time.sleep(wait)
    if found is None or found.commit_hash is None or found.size is None:
        raise WeightsError(f"{what}: the answer does not come from a Hub. Check HF_ENDPOINT and proxies.")
    return found


def fetched(repo: str, file: str, revision: str, access: Access, most: int) -> Path:
    """Download a file into the cache, unless it is there; its path in the snapshot of a commit.

    Args:
        repo: the repository.
        file: name of the file.
        revision: commit, branch or tag.
        access: how the Hub may be asked.
        most: bytes of the file, at most, whatever the answer says of its length or leaves out.

    Raises:
        HubUnreachable: if the Hub does not answer or may not be asked.
        WeightsError: if it refuses, breaks off, or the cache cannot be written.
    """
    from huggingface_hub import hf_hub_download

    with asking(f"{repo}@{revision}, {file}", most):
        found = hf_hub_download(
            repo,
            file,
            revision=revision,
            cache_dir=access.root,
            token=access.token,
            force_download=access.force,
            etag_timeout=TIMEOUT,
        )
        path = Path(found)
        if not access.force or path.is_symlink():
            return path
        # The client fetches anew what a link leads to, and leaves a file in the place of the link as it is.
        path.unlink()
    return fetched(repo, file, revision, replace(access, force=False), most)


def hub_error(error: Exception, what: str) -> WeightsError:
    """Say in one sentence what the client's error means and what to do.

    Nothing of the client's own text is kept: it holds addresses that give access, and at times the token.

    Args:
        error: what the client raised.
        what: what was asked for; begins the message.
    """
    from huggingface_hub import errors

    meanings = {
        errors.GatedRepoError: f"the repository is gated. Accept its terms on its page of the Hub, then {LOGIN}.",
        errors.RepositoryNotFoundError: f"no such repository, or a private one. Check the name, or {LOGIN}.",
        errors.RevisionNotFoundError: "the repository has no such revision. Name a branch, a tag or a full commit.",
        errors.LocalEntryNotFoundError: "neither in the cache nor to be had from the Hub. Check the connection.",
        errors.EntryNotFoundError: "the repository has no such file: it holds no model of this zoo at this revision.",
    }
    for kind, meaning in meanings.items():
        if isinstance(error, kind):
            return WeightsError(f"{what}: {meaning}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubUnreachable(f"{what}: not in the cache, and HF_HUB_OFFLINE forbids to ask the Hub. Unset it once.")
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(error.response.status_code, what)
    if isinstance(error, GaveUp):
        if error.status:
            return _refusal(error.status, what)
        return HubUnreachable(f"{what}: the transfer broke off or stood still {TRIES} times. Try again later.")
    if isinstance(error, TooMuch):
        return WeightsError(f"{what}: more bytes came than were announced, and were dropped. Try again, or report it.")
    if isinstance(error, OSError) and error.errno is not None:
        place = f" {error.filename}" if error.filename else ""
        return WeightsError(f"{what}: cannot write{place}: {error.strerror}. Set HF_HOME to a folder with room.")
    reason = type(error).__name__
    return HubUnreachable(f"{what}: the Hub cannot be reached ({reason}). Check the connection and HF_ENDPOINT.")


def _refusal(status: int, what: str) -> WeightsError:
    if status in BUSY:
        return HubUnreachable(f"{what}: the Hub is busy or down (status {status}). Try again in some minutes.")
    if status == 401:
        return WeightsError(f"{what}: the Hub does not know the token (status 401). Replace it: {LOGIN}.")
    if status == 403:
        return WeightsError(f"{what}: the account or its token may not do this (status 403). Use another: {LOGIN}.")
    return WeightsError(f"{what}: the Hub answers with status {status}. Check the name and the client's version.")


@contextmanager
def asking(what: str, most: int = MAX_ANSWER) -> Iterator[None]:
    """Let the client ask within bounds, see `limited`; turn its errors into ours.

    Args:
        what: what is asked for; begins the message of an error.
        most: bytes of an answer, at most.

    Raises:
        WeightsError: see `hub_error`.
    """
    from huggingface_hub.errors import HTTPError

    try:
        with limited(most):
            yield
    except (HTTPError, OSError, ValueError) as error:
        raise hub_error(error, what) from None
