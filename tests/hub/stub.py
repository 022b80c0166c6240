"""A hub on the loopback address that speaks as much of the Hugging Face Hub's HTTP as its library needs here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

TOKEN = "hf_of_the_stub"


class Hub:
    """What the stub holds."""

    def __init__(self) -> None:
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.lost: set[str] = set()  # files that it lists and does not give
        self.address = ""

    def files(self, repo: str, revision: str) -> dict[str, bytes] | None:
        """The files of a repository at a revision; None if there is none."""
        made = self.commits.get(repo)
        if not made:
            return None
        by_name = {commit_id(repo, i): files for i, files in enumerate(made)} | {"main": made[-1]}
        return by_name.get(revision)


def commit_id(repo: str, number: int) -> str:
    return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers for as long as the body runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length)) if length is not None else self._chunks()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._json({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
            exists = repo in self.hub.commits
            self.hub.commits.setdefault(repo, [])
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(repo)
            self._json({"url": f"{self.hub.address}/{repo}"}, 409 if exists else 200)
        elif self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path.partition("?")[0]):
            how = {"uploadMode": "regular", "shouldIgnore": False}
            self._json({"files": [{"path": file["path"], **how} for file in json.loads(body)["files"]]})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", self.path.partition("?")[0]):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._json({"error": f"nothing at {self.path}"}, 404)

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/api/whoami-v2":
            self._json({"name": "me", "type": "user", "orgs": [], "auth": {}})
        elif match := re.fullmatch(r"/api/models/(.+)/tree/([^/]+)(?:/(.*))?", path):
            self._tree(match[1], match[2], "recursive=true" in query.lower())
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(match[1], match[2], match[3])
        else:
            self._json({"error": f"nothing at {self.path}"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _commit(self, repo: str, operations: list[dict[str, Any]]) -> None:
        commits = self.hub.commits[repo]
        files = dict(commits[-1]) if commits else {}
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "deletedFile":
                del files[value["path"]]
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        commits.append(files)
        oid = commit_id(repo, len(commits) - 1)
        self._json({"commitUrl": f"{self.hub.address}/{repo}/commit/{oid}", "commitOid": oid, "success": True})

    def _tree(self, repo: str, revision: str, recursive: bool) -> None:
        files = self.hub.files(repo, revision)
        if files is None or not recursive:
            self._missing("RepoNotFound", [] if repo in self.hub.commits else None)
            return
        entries = [
            {"type": "file", "path": path, "size": len(content), "oid": _etag(content)}
            for path, content in files.items()
        ]
        self._json(entries)

    def _info(self, repo: str, revision: str) -> None:
        files = self.hub.files(repo, revision)
        if files is None:
            self._missing("RepoNotFound" if repo not in self.hub.commits else "RevisionNotFound")
            return
        number = next(i for i, made in enumerate(self.hub.commits[repo]) if made is files)
        siblings = [{"rfilename": path} for path in files]
        self._json({"id": repo, "modelId": repo, "sha": commit_id(repo, number), "siblings": siblings, "tags": []})

    def _file(self, repo: str, revision: str, path: str) -> None:
        content = (self.hub.files(repo, revision) or {}).get(path)
        if path in self.hub.lost:
            self._json({"error": "gone"}, 410)
            return
        if content is None:
            self._missing("EntryNotFound")
            return
        self.send_response(200)
        self.send_header("ETag", f'"{_etag(content)}"')
        self.send_header("X-Repo-Commit", revision)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _missing(self, code: str, instead: Any = None) -> None:
        if instead is not None:
            self._json(instead)
            return
        self._json({"error": code}, 404, {"X-Error-Code": code, "X-Error-Message": code})

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _chunks(self) -> bytes:
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
