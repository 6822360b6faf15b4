"""A small server that speaks as much of the Hugging Face hub as down- and uploads need."""

import base64
import hashlib
import http.server
import json
import re
import threading

COMMIT = "0" * 40


class Hub:
    """Serves `{repo: {file: bytes}}` on loopback; counts requests and misbehaves on demand.

    Uploads add to `repos`, with the token "good". `gated` repositories answer 401 without it;
    `drop` names files whose first download breaks off half-way; `damage` names files whose bytes
    arrive changed.
    """

    def __init__(self, repos, gated=(), drop=(), damage=()):
        self.repos, self.gated = repos, set(gated)
        self.drop, self.damage = set(drop), set(damage)
        self.log, self.large = [], {}
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

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.log.append((self.command, self.path, None))
        if self.headers.get("Authorization") != "Bearer good":
            return self.error(401, "Unauthorized", "Invalid credentials")
        if self.path == "/api/repos/create":
            asked = json.loads(data)
            repo = "/".join(filter(None, [asked.get("organization") or "me", asked["name"]]))
            self.hub.repos.setdefault(repo, {})
            return self.json({"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/[^/]+", self.path):
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["size"] > 10_000 else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(data)["files"]
            ]
            return self.json({"files": files})
        if self.path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**x, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{x['oid']}"}}}
                for x in json.loads(data)["objects"]
            ]
            return self.json({"transfer": "basic", "objects": objects})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/[^/]+", self.path):
            for line in map(json.loads, data.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    content = base64.b64decode(value["content"])
                    self.hub.repos[match[1]][value["path"]] = content
                if line["key"] == "lfsFile":
                    self.hub.repos[match[1]][value["path"]] = self.hub.large[value["oid"]]
            url = f"{self.hub.url}/{match[1]}/commit/{COMMIT}"
            return self.json({"success": True, "commitOid": COMMIT, "commitUrl": url})
        if self.path == "/api/validate-yaml":
            return self.json({"errors": [], "warnings": []})
        return self.error(404, "NotFound", f"POST {self.path}")

    def do_PUT(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        if _sha(data) != oid:
            return self.error(400, "BadRequest", "checksum")
        self.hub.large[oid] = data
        return self.json({})

    def json(self, value):
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, True)

    def answer(self, body):
        path = self.path.split("?")[0]
        self.hub.log.append((self.command, path, self.headers.get("Range")))
        match = re.fullmatch(
            r"/(?:api/models/|api/spaces/|spaces/)?([^/]+/[^/]+)(/revision/[^/]+|/tree/[^/]+|/resolve/[^/]+/.*|/cdn/.*)?",
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
