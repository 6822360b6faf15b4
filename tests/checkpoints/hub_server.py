"""A small server that speaks as much of the Hugging Face hub as a download needs."""

import hashlib
import http.server
import json
import re
import threading

COMMIT = "0" * 40


class Hub:
    """Serves `{repo: {file: bytes}}` on loopback; counts requests and misbehaves on demand.

    `gated` repositories answer 401 without the token "good"; `drop` names files whose first
    download breaks off half-way; `damage` names files whose bytes arrive changed.
    """

    def __init__(self, repos, gated=(), drop=(), damage=()):
        self.repos, self.gated = repos, set(gated)
        self.drop, self.damage = set(drop), set(damage)
        self.log = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        path = self.path.split("?")[0]
        self.hub.log.append((self.command, path, self.headers.get("Range")))
        match = re.fullmatch(
            r"/(?:api/models/)?([^/]+/[^/]+)(/revision/[^/]+|/tree/[^/]+|/resolve/[^/]+/.*|/cdn/.*)?",
            path,
        )
        repo, rest = match[1], match[2] or ""
        if repo not in self.hub.repos:
            return self.error(404, "RepoNotFound", "Repository not found")
        if repo in self.hub.gated and self.headers.get("Authorization") != "Bearer good":
            return self.error(401, "GatedRepo", "Access to this model is restricted")
        files = self.hub.repos[repo]
        if rest.startswith("/resolve/"):
            name = rest.split("/", 3)[3]
            if name not in files:
                return self.error(404, "EntryNotFound", "Entry not found")
            return self.redirect(repo, name, files[name])
        if rest.startswith("/cdn/"):
            name = rest.split("/", 2)[2]
            return self.send_file(name, files[name], body)
        siblings = [{"rfilename": name, **_lfs(data)} for name, data in files.items()]
        if rest.startswith("/tree/"):
            entries = [
                {"type": "file", "path": n, "size": len(d), "oid": _sha(d), **_lfs(d)}
                for n, d in files.items()
            ]
            return self.reply(200, json.dumps(entries).encode(), {}, body)
        info = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "private": False,
                "tags": [], "downloads": 0, "likes": 0}  # fmt: skip
        return self.reply(200, json.dumps(info).encode(), {}, body)

    def redirect(self, repo, name, data):
        headers = {
            "Location": f"{self.hub.url}/{repo}/cdn/{name}",
            **_headers(data),
        }
        self.reply(302, b"", headers, body=True)

    def send_file(self, name, data, body):
        start = 0
        status, headers = 200, {"Accept-Ranges": "bytes", **_headers(data)}
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start, status = int(found[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if name in self.hub.damage:
            data = bytes([data[0] ^ 1]) + data[1:]
        part = data[start:]
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(part))}.items():
            self.send_header(key, value)
        self.end_headers()
        if not body:
            return
        if name in self.hub.drop:
            self.hub.drop.discard(name)
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(part)

    def error(self, status, code, message):
        body = json.dumps({"error": message}).encode()
        self.reply(status, body, {"X-Error-Code": code, "X-Error-Message": message}, True)

    def reply(self, status, data, headers, body):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(data)


def _sha(data):
    return hashlib.sha256(data).hexdigest()


def _headers(data):
    etag = f'"{_sha(data)}"'
    size = str(len(data))
    return {"X-Repo-Commit": COMMIT, "ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": size}


def _lfs(data):
    """Large files carry their checksum; small ones do not."""
    return (
        {"lfs": {"oid": _sha(data), "sha256": _sha(data), "size": len(data), "pointerSize": 130}}
        if len(data) > 10_000
        else {}
    )
