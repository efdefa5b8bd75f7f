"""A Hugging Face Hub on the loopback interface, for the real huggingface_hub to push to and pull from.

    with LoopbackHub() as hub:
        revision = hub.add("tester/base", folder)

Set HF_ENDPOINT to `hub.url` and HF_HUB_DISABLE_XET to 1 before huggingface_hub is imported. Everything is in
memory. Every caller is "tester", who may write to repositories of that name and to those of "testers", an
organisation; the token "hf_read" may only read, "hf_revoked" nothing, and whoever has none may read too.

`hub.faults` makes it fail, at a step of one's choice:

    hub.faults.append(Fault("POST .*/commit/", 503))              once, before anything is done
    hub.faults.append(Fault("POST .*/commit/", "drop", times=9))  the connection is cut instead of an answer
    hub.faults.append(Fault("POST .*/commit/", "drop after"))     done, but the answer is lost

Spaces are kept beside the models, as "spaces/owner/name".
"""

import base64
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".parquet")


@dataclass
class Request:
    """What a client asked for."""

    method: str
    path: str
    token: str | None


@dataclass
class Fault:
    """What goes wrong with the next requests whose "METHOD path" begins as `pattern` says."""

    pattern: str
    kind: int | Literal["drop", "drop after"]
    times: int = 1


@dataclass
class Commit:
    """All files of a repository at one time."""

    files: dict[str, bytes]
    title: str
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()))
    sha: str = field(default_factory=lambda: secrets.token_hex(20))


class Repo:
    """Commits by SHA, and the branches, pull requests and tags that name them."""

    def __init__(self, private: bool = False) -> None:
        self.private = private
        self.commits: dict[str, Commit] = {}
        self.refs: dict[str, str] = {}
        self.tags: set[str] = set()
        self.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")

    def commit(self, files: dict[str, bytes], title: str, ref: str = "main") -> str:
        commit = Commit(files, title)
        self.commits[commit.sha] = commit
        self.refs[ref] = commit.sha
        return commit.sha

    def find(self, revision: str) -> Commit | None:
        return self.commits.get(self.refs.get(revision, revision))


class LoopbackHub:
    """The server, running inside a `with` block. Tests read `repos` and `requests` and write with `add`.

    `before_commit`, if set, is called as each commit arrives: to let something happen in between.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.before_commit: Callable[[], Any] | None = None
        self.lock = threading.Lock()  # of a commit: nothing comes between what it reads and what it writes

    def __enter__(self) -> "LoopbackHub":
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, repo_id: str, folder: str | Path, title: str = "upload") -> str:
        """Commit a folder as it is to a repository, new or not, and return the commit's SHA."""
        paths = [path for path in Path(folder).rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        return self.repos.setdefault(repo_id, Repo()).commit(files, title)

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a repository."""
        commit = self.repos[repo_id].find(revision)
        assert commit is not None, revision
        return commit.files


class _HubError(Exception):
    """Answered with a status and the `X-Error-Code` that huggingface_hub turns into its own exceptions."""

    def __init__(self, status: int, code: str, message: str, **body: Any):
        super().__init__(message)
        self.status, self.code, self.body = status, code, {"error": message, **body}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for the client's delayed acknowledgement
    hub: LoopbackHub

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.raw = self.read_body()
        self.query = parse_qs(url.query)
        self.token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.hub.requests.append(Request(self.command, unquote(url.path), self.token))
        fault = self.next_fault(unquote(url.path))
        self.lost = fault == "drop after"
        # A space is a repository beside the models, and what can be asked of both is the same.
        path = re.sub("^/api/spaces/", "/api/models/spaces/", unquote(url.path))
        try:
            if fault == "drop":
                self.close_connection = True
                return
            if isinstance(fault, int):
                raise _HubError(fault, "ServerError", "Something went wrong on the side of the server")
            if self.token == "hf_revoked":
                raise _HubError(401, "Unauthorized", "Invalid credentials in Authorization header")
            for pattern, method in _ROUTES:
                if match := re.fullmatch(pattern, path):
                    method(self, *match.groups())
                    return
            raise _HubError(404, "NotFound", f"No such route: {self.command} {url.path}")
        except _HubError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            self.reply(error.body, error.status, headers)

    def next_fault(self, path: str) -> int | str | None:
        for fault in self.hub.faults:
            if fault.times and re.match(fault.pattern, f"{self.command} {path}"):
                fault.times -= 1
                return fault.kind
        return None

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def reply(self, body: Any = b"", status: int = 200, headers: dict[str, str] | None = None) -> None:
        if self.lost:
            self.close_connection = True
            return
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        default = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**default, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self) -> dict[str, Any]:
        return json.loads(self.raw or b"{}")

    def repo(self, repo_id: str) -> Repo:
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and self.token is None):
            raise _HubError(404, "RepoNotFound", f"Repository not found: {repo_id}")
        return repo

    def may_write(self, owner: str) -> None:
        if self.token in (None, "hf_read") or owner not in ("tester", "testers"):
            raise _HubError(403, "Forbidden", f"You don't have the rights to write to {owner}")

    def commit(self, repo_id: str, revision: str | None) -> Commit:
        commit = self.repo(repo_id).find(revision or "main")
        if commit is None:
            raise _HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def who_am_i(self) -> None:
        role = "read" if self.token == "hf_read" else "write"
        access = {"type": "access_token", "accessToken": {"role": role}}
        names = {"id": "1", "name": "tester", "fullname": "tester"}
        self.reply({"type": "user", **names, "orgs": [{"name": "testers"}], "auth": access})

    def validate_card(self) -> None:
        self.reply({"errors": [], "warnings": []})

    def create_repo(self) -> None:
        body = self.json()
        owner = body.get("organization") or "tester"
        repo_id = f"{'spaces/' if body.get('type') == 'space' else ''}{owner}/{body['name']}"
        self.may_write(owner)
        place = {"url": f"{self.hub.url}/{repo_id}", "name": repo_id, "id": repo_id}
        if repo_id in self.hub.repos:
            raise _HubError(409, "RepoExists", "You already created this repository", **place)
        self.hub.repos[repo_id] = Repo(body.get("visibility") == "private" or bool(body.get("private")))
        self.reply(place)

    def delete_repo(self) -> None:
        body = self.json()
        self.hub.repos.pop(f"{body.get('organization') or 'tester'}/{body['name']}", None)
        self.reply({})

    def negotiate_lfs(self, repo_id: str) -> None:
        objects = []
        for item in self.json()["objects"]:
            known = {"oid": item["oid"], "size": item["size"]}
            upload = {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}}
            objects.append(known if item["oid"] in self.hub.blobs else {**known, **upload})
        self.reply({"transfer": "basic", "objects": objects})

    def store_blob(self, oid: str) -> None:
        if hashlib.sha256(self.raw).hexdigest() != oid:
            raise _HubError(
                400, "BadRequest", "The content does not have the hash that it was announced with"
            )
        self.hub.blobs[oid] = self.raw
        self.reply()

    def preupload(self, repo_id: str, revision: str) -> None:
        files = self.commit(repo_id, revision).files
        answers = []
        for path in (item["path"] for item in self.json()["files"]):
            entry = _entry(path, files[path]) if path in files else {"oid": None}
            oid = entry.get("lfs", entry)["oid"]
            mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.reply({"files": answers})

    def push_commit(self, repo_id: str, revision: str) -> None:
        as_pull_request = "create_pr" in self.query
        if not as_pull_request:
            self.may_write(repo_id.split("/")[-2])
        if self.hub.before_commit is not None:
            self.hub.before_commit()
        with self.hub.lock:
            sha = self.apply(repo_id, revision, as_pull_request)
        answer = {"success": True, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}", "commitOid": sha}
        if as_pull_request:
            number = len(self.pull_requests(repo_id))
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo_id}/discussions/{number}"
        self.reply({**answer, "hookOutput": ""})

    def apply(self, repo_id: str, revision: str, as_pull_request: bool) -> str:
        """Write a commit, all of its operations or none: its SHA."""
        files, title = dict(self.commit(repo_id, revision).files), "commit"
        for operation in map(json.loads, self.raw.splitlines()):
            key, value = operation["key"], operation["value"]
            if key == "header":
                title = value["summary"]
                parent = value.get("parentCommit")
                if parent is not None and parent != self.repo(repo_id).refs.get(revision):
                    raise _HubError(412, "PreconditionFailed", "A commit has happened since. Please refresh.")
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            elif key == "deletedFile":
                files.pop(value["path"], None)
            elif key == "deletedFolder":
                files = {path: data for path, data in files.items() if not path.startswith(value["path"])}
        if as_pull_request:
            revision = f"refs/pr/{len(self.pull_requests(repo_id)) + 1}"
        return self.repo(repo_id).commit(files, title, revision)

    def pull_requests(self, repo_id: str) -> dict[str, str]:
        return {name: sha for name, sha in self.repo(repo_id).refs.items() if name.startswith("refs/pr/")}

    def list_discussions(self, repo_id: str) -> None:
        found = []
        for name, sha in self.pull_requests(repo_id).items():
            commit = self.repo(repo_id).commits[sha]
            about = {"num": int(name.split("/")[-1]), "title": commit.title, "createdAt": commit.date}
            repo = {"name": repo_id, "type": "model"}
            author = {"name": "tester"}
            found.append({**about, "author": author, "status": "open", "repo": repo, "isPullRequest": True})
        self.reply({"discussions": found, "count": len(found), "start": 0})

    def add_tag(self, repo_id: str, revision: str) -> None:
        repo, tag = self.repo(repo_id), self.json()["tag"]
        self.may_write(repo_id.split("/")[-2])
        if tag in repo.refs:
            raise _HubError(409, "RefExists", f"Tag {tag} exists already")
        repo.refs[tag] = self.commit(repo_id, revision).sha
        repo.tags.add(tag)
        self.reply({})

    def add_branch(self, repo_id: str, branch: str) -> None:
        repo = self.repo(repo_id)
        self.may_write(repo_id.split("/")[-2])
        if branch in repo.refs:
            raise _HubError(409, "RefExists", f"Branch {branch} exists already")
        repo.refs[branch] = self.commit(repo_id, self.json().get("startingPoint")).sha
        self.reply({})

    def list_refs(self, repo_id: str) -> None:
        repo = self.repo(repo_id)
        named: dict[str, list[dict[str, str]]] = {"branches": [], "tags": []}
        for name, sha in repo.refs.items():
            kind, place = ("tags", "tags") if name in repo.tags else ("branches", "heads")
            if not name.startswith("refs/"):
                named[kind].append({"name": name, "targetCommit": sha, "ref": f"refs/{place}/{name}"})
        self.reply({**named, "converts": []})

    def list_tree(self, repo_id: str, revision: str, folder: str | None) -> None:
        files = self.commit(repo_id, revision).files
        found = [_entry(path, data) for path, data in sorted(files.items()) if path.startswith(folder or "")]
        if not found:
            raise _HubError(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        self.reply(found)

    def list_paths(self, repo_id: str, revision: str) -> None:
        files = self.commit(repo_id, revision).files
        is_json = "json" in self.headers.get("Content-Type", "")
        paths = self.json()["paths"] if is_json else parse_qs(self.raw.decode()).get("paths", [])
        self.reply([_entry(path, files[path]) for path in paths if path in files])

    def describe(self, repo_id: str, revision: str | None) -> None:
        commit = self.commit(repo_id, revision)
        names = {"_id": "1", "id": repo_id, "modelId": repo_id, "author": repo_id.split("/")[0]}
        state = {"private": self.repo(repo_id).private, "gated": False, "disabled": False, "tags": []}
        dates = {"createdAt": commit.date, "lastModified": commit.date}
        readme = commit.files.get("README.md", b"").decode().split("---\n")
        card = (yaml.safe_load(readme[1]) or {}) if len(readme) > 2 else {}
        shown = {key: card.get(key) for key in ("pipeline_tag", "library_name")}
        shown |= {"siblings": [{"rfilename": path} for path in sorted(commit.files)], "sha": commit.sha}
        self.reply({**names, **state, **dates, **shown, "downloads": 0, "likes": 0})

    def download(self, repo_id: str, revision: str, path: str) -> None:
        commit = self.commit(repo_id, revision)
        if path not in commit.files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit.sha}
            self.reply({"error": "Entry not found"}, 404, headers)
            return
        data = commit.files[path]
        entry = _entry(path, data)
        etag = entry.get("lfs", entry)["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit.sha}
        if "lfs" in entry:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
        self.reply(data, headers=headers)


_REPO, _REVISION = r"((?:spaces/)?[^/]+/[^/]+)", r"(refs/pr/\d+|[^/]+)"
_MODEL = rf"/api/models/{_REPO}"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"/api/whoami-v2", _Handler.who_am_i),
    (r"/api/validate-yaml", _Handler.validate_card),
    (r"/api/repos/create", _Handler.create_repo),
    (r"/api/repos/delete", _Handler.delete_repo),
    (rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.negotiate_lfs),
    (r"/lfs/(\w+)", _Handler.store_blob),
    (rf"/{_REPO}/resolve/{_REVISION}/(.+)", _Handler.download),
    (rf"{_MODEL}/preupload/{_REVISION}", _Handler.preupload),
    (rf"{_MODEL}/commit/{_REVISION}", _Handler.push_commit),
    (rf"{_MODEL}/tag/{_REVISION}", _Handler.add_tag),
    (rf"{_MODEL}/branch/(.+)", _Handler.add_branch),
    (rf"{_MODEL}/refs", _Handler.list_refs),
    (rf"{_MODEL}/discussions", _Handler.list_discussions),
    (rf"{_MODEL}/tree/{_REVISION}(?:/(.*))?", _Handler.list_tree),
    (rf"{_MODEL}/paths-info/{_REVISION}", _Handler.list_paths),
    (rf"{_MODEL}(?:/revision/{_REVISION})?", _Handler.describe),
]


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _git_oid(data)}
    if path.endswith(LFS_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry
