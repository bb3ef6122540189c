"""A double of the Hugging Face hub: what its client asks for to make a repository and commit."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace

import yaml

TOKEN = "hf_" + "double" * 6
_DATASET = re.compile(r"([\w-]+/)?[\w.-]+", re.ASCII)


def faults_of(card: str) -> str:
    """Return which names of data sets the hub refuses in a card."""
    front = yaml.safe_load(card.split("---\n")[1])
    results = [result for model in front["model-index"] for result in model["results"]]
    named = [*front.get("datasets", ()), *(result["dataset"]["type"] for result in results)]
    return ", ".join(f"{name!r} is no data set" for name in named if not _DATASET.fullmatch(name))


@contextmanager
def local_hub() -> Iterator[SimpleNamespace]:
    """Serve one; yield its address, and its repositories: what was asked for, and files by path."""
    repositories: dict[str, dict] = {}

    class Hub(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = self.path.split("/")
            if parts[-1] == "validate-yaml":  # of anybody
                faults = faults_of(json.loads(body)["content"])
                errors = [{"message": faults}] if faults else []
                self.answer(400 if faults else 200, {"errors": errors, "warnings": []})
            elif self.headers["Authorization"] != f"Bearer {TOKEN}":
                self.answer(401, {"error": "Invalid username or password."})
            elif parts[-1] == "create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                status = 409 if name in repositories else 200
                repositories.setdefault(name, {"asked": asked, "files": {}})
                self.answer(status, {"url": f"{address}/{name}"})
            elif parts[-2] == "preupload":
                mode = {"uploadMode": "regular", "shouldIgnore": False}
                files = [{"path": file["path"], **mode} for file in json.loads(body)["files"]]
                self.answer(200, {"files": files})
            else:
                name = "/".join(parts[3:5])
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        repositories[name]["files"][line["value"]["path"]] = content
                commit = f"{address}/{name}/commit/1"
                self.answer(200, {"commitUrl": commit, "commitOid": "1" * 40})

        def answer(self, status: int, content: dict) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield SimpleNamespace(address=address, repositories=repositories)
    finally:
        server.shutdown()
