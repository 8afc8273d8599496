"""The Hub's protocol for model repositories, without their files: which request gets which answer."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, unquote

from hub_store import DATE, HubError, Repo, Store


@dataclass(frozen=True)
class Request:
    """What a client sent.

    Attributes:
        path: as sent, that is quoted.
        headers: by lower-case name; the token is left out.
        user: the token's owner, None without a token.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    user: str | None
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What the server sends; the connection closes after `sent` bytes of the body, None for all.

    A header that is None is left out. What is in `more` follows the body, piece by piece, unannounced.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str | None] = field(default_factory=dict)
    sent: int | None = None
    more: Iterable[bytes] = ()


Route = Callable[..., Answer]
ROUTES: list[tuple[re.Pattern[str], Route]] = []


def route(pattern: str) -> Callable[[Route], Route]:
    """Let a function answer requests of this form; it gets the groups, unquoted."""
    names = {"{repo}": "([^/]+/[^/]+)", "{rev}": "([^/]+)", "{path}": "(.+)"}
    for name, group in names.items():
        pattern = pattern.replace(name, group)

    def add(function: Route) -> Route:
        ROUTES.append((re.compile(pattern), function))
        return function

    return add


def respond(hub: Any, request: Request) -> Answer:
    """The answer to a request; one of a form that the double does not know is a mistake in the test."""
    for pattern, function in ROUTES:
        if match := pattern.fullmatch(f"{request.method} {request.path}"):
            try:
                return function(hub, request, *(group and unquote(group) for group in match.groups()))
            except HubError as error:
                headers = {name: value for name, value in error.headers.items() if value}
                return replace(shown({"error": str(error)}, error.status), headers=headers)
    raise LookupError(f"The Hub's double has no answer to {request.method} {request.path}.")


def shown(data: object, status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(data).encode(), {"Content-Type": "application/json"})


# Accounts and repositories


@route("GET /api/whoami-v2")
def whoami(hub: Store, request: Request) -> Answer:
    name = hub.signed_in(request.user)
    token = {"type": "access_token", "accessToken": {"displayName": "tests", "role": "write"}}
    return shown({"type": "user", "id": name, "name": name, "fullname": name, "auth": token, "orgs": []})


def named(body: dict, user: str) -> str:
    return f"{body.get('organization') or user}/{body['name']}"


@route("POST /api/repos/create")
def create(hub: Any, request: Request) -> Answer:
    user, body = hub.signed_in(request.user), json.loads(request.body)
    name = named(body, user)
    url = {"url": f"{hub.endpoint}/{name}"}
    if not name.startswith(f"{user}/"):
        raise HubError(403, f"You don't have the rights to create a model under the namespace of {name}")
    if name in hub.repos:
        return shown({"error": "You already created this model repo", **url}, 409)
    # Older clients send `private`.
    hub.repos[name] = Repo(name, body.get("private", False) or body.get("visibility") == "private")
    return shown({**url, "name": name, "id": name})


@route("DELETE /api/repos/delete")
def delete(hub: Store, request: Request) -> Answer:
    name = named(json.loads(request.body), hub.signed_in(request.user))
    del hub.repos[hub.writable(name, request.user).name]
    return Answer()


@route("POST /api/validate-yaml")
def validate(hub: Store, request: Request) -> Answer:
    card = json.loads(request.body)["content"]
    missing = {"message": "empty or missing yaml metadata in repo card"}
    return shown({"errors": [], "warnings": [] if card.startswith("---\n") else [missing]})


# Looking


@route("GET /api/models/{repo}(?:/revision/{rev})?")
def info(hub: Store, request: Request, name: str, revision: str | None) -> Answer:
    repo = hub.readable(name, request.user)
    commit = repo.resolve(revision or "main")
    siblings = []
    for path, file in commit.files.items():
        entry = file.entry("sha256")
        more = {"size": entry["size"], "blobId": entry["oid"], "lfs": entry.get("lfs")}
        siblings.append({"rfilename": path, **(more if "blobs" in request.query else {})})
    about = {"id": name, "modelId": name, "author": repo.owner, "sha": commit.oid, "siblings": siblings}
    more = {"private": repo.private, "gated": repo.gated, "lastModified": DATE, "createdAt": DATE, "tags": []}
    return shown({**about, **more})


@route("GET /api/models/{repo}/tree/{rev}(?:/{path})?")
def tree(hub: Store, request: Request, name: str, revision: str, folder: str | None) -> Answer:
    commit = hub.readable(name, request.user).resolve(revision)
    entries, start = commit.entries(), f"{folder}/" if folder else ""
    if folder and entries.get(folder, {}).get("type") != "directory":
        raise HubError(404, f"{folder} does not exist", "EntryNotFound", commit.oid)
    below = {path[len(start) :]: entry for path, entry in entries.items() if path.startswith(start)}
    recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    return shown([entry for path, entry in below.items() if recursive or "/" not in path])


@route("POST /api/models/{repo}/paths-info/{rev}")
def paths_info(hub: Store, request: Request, name: str, revision: str) -> Answer:
    entries = hub.readable(name, request.user).resolve(revision).entries()
    paths = parse_qs(request.body.decode())["paths"]
    return shown([entries[path] for path in paths if path in entries])


@route("GET /api/models/{repo}/commits/{rev}")
def commits(hub: Store, request: Request, name: str, revision: str) -> Answer:
    history = hub.readable(name, request.user).history(revision)
    more = {"date": DATE, "authors": []}
    return shown([{"id": c.oid, "title": c.title, "message": c.description, **more} for c in history])


@route("GET /api/models/{repo}/refs")
def refs(hub: Store, request: Request, name: str) -> Answer:
    repo = hub.readable(name, request.user)

    def below(start: str) -> list[dict[str, str]]:
        known = ((ref, oid) for ref, oid in repo.refs.items() if ref.startswith(start))
        return [{"name": ref[len(start) :], "ref": ref, "targetCommit": oid} for ref, oid in known]

    found = {"branches": below("refs/heads/"), "tags": below("refs/tags/"), "converts": []}
    return shown({**found, "pullRequests": below("refs/pr/")} if "include_prs" in request.query else found)


@route("(POST|DELETE) /api/models/{repo}/(tag|branch)/{rev}")
def reference(hub: Store, request: Request, method: str, name: str, kind: str, revision: str) -> Answer:
    repo = hub.writable(name, request.user)
    start = "refs/tags/" if kind == "tag" else "refs/heads/"
    if method == "DELETE":
        repo.remove_ref(start + revision)
        return Answer()
    body = json.loads(request.body)
    if kind == "tag":
        repo.add_ref(start + body["tag"], revision)
    else:
        repo.add_ref(start + revision, body.get("startingPoint", "main"))
    return Answer()
