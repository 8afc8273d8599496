"""What the Hub's double stores: users, repositories with their history, and uploaded bytes. All in memory."""

import hashlib
import json
from dataclasses import dataclass, field

MAIN = "refs/heads/main"
DATE = "2026-01-31T12:00:00.000Z"
# A token that belongs to nobody.
UNKNOWN = "(unknown)"
# The Hub keeps larger files outside of git, as it does all that .gitattributes names.
LFS_SIZE = 10_000_000
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


class HubError(Exception):
    """A refusal, with the code by which clients tell apart what shares a status."""

    def __init__(self, status: int, message: str, code: str = "", commit: str = "") -> None:
        super().__init__(message)
        self.status = status
        # Clients remember a missing file only of a commit that they are told.
        self.headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}


def is_lfs(path: str, size: int) -> bool:
    """Whether a file of this name and size is stored outside of git; empty ones never are."""
    return size > 0 and (path.endswith(".safetensors") or size > LFS_SIZE)


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    path: str
    content: bytes

    @property
    def lfs(self) -> bool:
        return is_lfs(self.path, len(self.content))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def blob(self) -> bytes:
        """What git holds: the content, or the pointer that stands for it."""
        if not self.lfs:
            return self.content
        version = "https://git-lfs.github.com/spec/v1"
        return f"version {version}\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()

    @property
    def oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.blob) + self.blob).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def entry(self, digest: str = "oid") -> dict:
        """The file as listings show it; they disagree on how the digest of the content is called."""
        shown = {"type": "file", "path": self.path, "size": len(self.content), "oid": self.oid}
        if self.lfs:
            shown["lfs"] = {digest: self.sha256, "size": len(self.content), "pointerSize": len(self.blob)}
        return shown


@dataclass(frozen=True)
class Commit:
    """A whole tree, and how it came to be."""

    oid: str
    parent: str | None
    title: str
    description: str
    files: dict[str, File] = field(repr=False)

    def file(self, path: str) -> File:
        if path not in self.files:
            raise HubError(404, "Entry not found", "EntryNotFound", self.oid)
        return self.files[path]

    def entries(self) -> dict[str, dict]:
        """All files and folders by path."""
        found = {path: file.entry() for path, file in self.files.items()}
        for path in self.files:
            parts = path.split("/")[:-1]
            for folder in ("/".join(parts[: k + 1]) for k in range(len(parts))):
                oid = hashlib.sha1(folder.encode()).hexdigest()
                found[folder] = {"type": "directory", "path": folder, "size": 0, "oid": oid}
        return dict(sorted(found.items()))


class Repo:
    """A model repository.

    Args:
        name: owner and name, ``owner/name``.
        private: only its owner may know that it exists.
    """

    def __init__(self, name: str, private: bool = False) -> None:
        self.name, self.private = name, private
        self.owner = name.split("/")[0]
        # False, or "manual": the owner and these readers may download, all may look.
        self.gated: bool | str = False
        self.readers: set[str] = set()
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.commit({".gitattributes": ATTRIBUTES}, title="initial commit")

    def commit(
        self, changes: dict[str, bytes | None], *, title: str = "edit", description: str = "", ref: str = MAIN
    ) -> str:
        """Write files, or remove those that are None; the new commit's name."""
        parent = self.refs.get(ref)
        files = dict(self.commits[parent].files) if parent else {}
        for path, content in changes.items():
            files.pop(path, None)
            if content is not None:
                files[path] = File(path, content)
        tree = [(path, file.oid) for path, file in sorted(files.items())]
        # A count, since the same tree may be committed again on top of itself.
        known = json.dumps([self.name, parent, title, description, tree, len(self.commits)])
        oid = hashlib.sha1(known.encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, description, files)
        self.refs[ref] = oid
        return oid

    def resolve(self, revision: str) -> Commit:
        """The commit that a full name, a branch, a tag or a reference stands for."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.commits[self.refs[ref]]
        if revision not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[revision]

    def history(self, revision: str) -> list[Commit]:
        """Commits from this one back to the first."""
        found = [self.resolve(revision)]
        while parent := found[-1].parent:
            found.append(self.commits[parent])
        return found

    def add_ref(self, ref: str, revision: str) -> None:
        """Name a commit."""
        if ref in self.refs:
            raise HubError(409, f"Reference already exists: {ref}")
        self.refs[ref] = self.resolve(revision).oid

    def remove_ref(self, ref: str) -> None:
        """Forget a name."""
        if self.refs.pop(ref, None) is None:
            raise HubError(404, f"Reference does not exist: {ref}", "RevisionNotFound")


class Store:
    """Users, repositories, and who may do what with them."""

    def __init__(self) -> None:
        # Token -> name.
        self.users = {"hf_owner": "zoo", "hf_reader": "reader"}
        self.repos: dict[str, Repo] = {}
        # sha256 -> bytes that a commit may name.
        self.uploads: dict[str, bytes] = {}

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> Repo:
        """A repository that is there without having been pushed."""
        repo = self.repos[name] = Repo(name, private)
        head = repo.commits[repo.commit(dict(files), title="add files")]
        self.uploads.update({file.sha256: file.content for file in head.files.values() if file.lfs})
        return repo

    def signed_in(self, user: str | None) -> str:
        if user is None:
            raise HubError(401, "Invalid username or password.")
        if user == UNKNOWN:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user

    def readable(self, name: str, user: str | None) -> Repo:
        """A repository of which this user may see the list of files."""
        if user is not None:
            self.signed_in(user)
        repo = self.repos.get(name)
        if repo is None or (repo.private and user != repo.owner):
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        return repo

    def downloadable(self, name: str, user: str | None) -> Repo:
        """A repository of which this user may have the files."""
        repo = self.readable(name, user)
        if repo.gated and user not in {repo.owner, *repo.readers}:
            message = f"Access to model {name} is restricted and you are not in the authorized list."
            raise HubError(403 if user else 401, message, "GatedRepo")
        return repo

    def writable(self, name: str, user: str | None) -> Repo:
        """A repository that this user may change."""
        repo = self.readable(name, user)
        if self.signed_in(user) != repo.owner:
            raise HubError(403, f"You don't have the rights to change {name}")
        return repo
