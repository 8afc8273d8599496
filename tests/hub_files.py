"""The Hub's protocol for the files of a repository: upload, commit and download."""

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import quote

from hub_routes import Answer, Request, route, shown
from hub_store import File, HubError, Store, is_lfs

SIGNATURE = "X-Amz-Signature=nobodyelseknowsthissignature"

# Upload


@route("POST /api/models/{repo}/preupload/{rev}")
def preupload(hub: Store, request: Request, name: str, revision: str) -> Answer:
    files = hub.readable(name, hub.signed_in(request.user)).resolve(revision).files
    modes = []
    for asked in json.loads(request.body)["files"]:
        path = asked["path"]
        mode = "lfs" if is_lfs(path, asked["size"]) else "regular"
        oid = {"oid": files[path].etag} if path in files else {}
        modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **oid})
    return shown({"files": modes})


@route(r"POST /{repo}\.git/info/lfs/objects/batch")
def batch(hub: Any, request: Request, name: str) -> Answer:
    hub.readable(name, hub.signed_in(request.user))
    objects = []
    for wanted in json.loads(request.body)["objects"]:
        # Who knows this address may write there.
        upload = {"href": f"{hub.storage}/upload/{wanted['oid']}?{SIGNATURE}"}
        verify = {"href": f"{hub.endpoint}/{name}.git/info/lfs/verify"}
        stored = wanted["oid"] in hub.uploads
        objects.append({**wanted, **({} if stored else {"actions": {"upload": upload, "verify": verify}})})
    return shown({"transfer": "basic", "objects": objects})


@route("PUT /upload/{rev}")
def upload(hub: Store, request: Request, oid: str) -> Answer:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise HubError(400, "The bytes do not have the digest that was announced")
    hub.uploads[oid] = request.body
    return Answer()


@route(r"POST /{repo}\.git/info/lfs/verify")
def verify(hub: Store, request: Request, name: str) -> Answer:
    asked = json.loads(request.body)
    if len(hub.uploads.get(asked["oid"], b"")) != asked["size"]:
        raise HubError(404, "Object does not exist")
    return Answer()


def changes(hub: Store, files: dict[str, File], lines: list[dict]) -> dict[str, bytes | None]:
    """What the lines of a commit do to the files; None removes one."""
    found: dict[str, bytes | None] = {}
    for line in lines:
        kind, value = line["key"], line["value"]
        path = value["path"]
        if kind == "file":
            found[path] = base64.b64decode(value["content"])
        elif kind == "lfsFile":
            if value["oid"] not in hub.uploads:
                raise HubError(400, f"LFS pointer of {path} points to a file that does not exist")
            found[path] = hub.uploads[value["oid"]]
        else:
            gone = [old for old in files if old == path or old.startswith(path.rstrip("/") + "/")]
            if not gone:
                raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
            found.update(dict.fromkeys(gone))
    return found


@route("POST /api/models/{repo}/commit/{rev}")
def commit(hub: Any, request: Request, name: str, revision: str) -> Answer:
    opens = "create_pr" in request.query
    user = hub.signed_in(request.user)
    # Anybody may propose a change.
    proposal = opens or revision.startswith("refs/pr/")
    repo = hub.readable(name, user) if proposal else hub.writable(name, user)
    ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
    head = repo.resolve(ref)
    header, *lines = (json.loads(line) for line in request.body.splitlines())
    about = header["value"]
    if about.get("parentCommit", head.oid) != head.oid:
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    changed = changes(hub, head.files, lines)
    number = 1 + sum(known.startswith("refs/pr/") for known in repo.refs)
    if opens:
        ref = f"refs/pr/{number}"
        repo.add_ref(ref, head.oid)
    oid = repo.commit(changed, title=about["summary"], description=about["description"], ref=ref)
    told = {"success": True, "commitOid": oid, "commitUrl": f"{hub.endpoint}/{name}/commit/{oid}"}
    return shown({**told, "pullRequestUrl": f"{hub.endpoint}/{name}/discussions/{number}"} if opens else told)


# Download


def content(file: File, request: Request, headers: dict[str, str]) -> Answer:
    """The bytes of a file, or the part that was asked for."""
    size = len(file.content)
    part = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if part is None:
        return Answer(200, file.content, {"Accept-Ranges": "bytes", **headers})
    start, end = int(part[1]), min(int(part[2] or size), size - 1)
    if start > end:
        return Answer(416, b"", {"Content-Range": f"bytes */{size}", **headers})
    there = {"Content-Range": f"bytes {start}-{end}/{size}"}
    return Answer(206, file.content[start : end + 1], {**there, **headers})


@route("(?:GET|HEAD) /{repo}/resolve/{rev}/{path}")
def resolve(hub: Any, request: Request, name: str, revision: str, path: str) -> Answer:
    found = hub.downloadable(name, request.user).resolve(revision)
    file = found.file(path)
    headers = {"X-Repo-Commit": found.oid, "ETag": f'"{file.oid}"'}
    if not file.lfs:
        return content(file, request, headers)
    linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
    # To another origin, as on the Hub: clients follow a redirect within one and then miss these headers.
    target = f"{hub.storage}/stored/{name}/{found.oid}/{quote(path)}?{SIGNATURE}"
    return Answer(302, b"", {"Location": target, **headers, **linked})


@route("GET /stored/{repo}/{rev}/{path}")
def stored(hub: Store, request: Request, name: str, oid: str, path: str) -> Answer:
    """Bytes of a file outside of git. Who knows this address may have them."""
    file = hub.repos[name].commits[oid].file(path)
    return content(file, request, {"ETag": f'"{file.sha256}"'})
