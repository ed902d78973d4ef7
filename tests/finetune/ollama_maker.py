"""The stand-in for Ollama of the providers' tests, which here also makes and removes models, as its API documents it.

On top of tests/providers/ollama_stand_in.py it covers POST /api/blobs/DIGEST (the digest is checked), POST /api/create from an adapter
over a model or from a GGUF file, in lines, and DELETE /api/delete. Safetensors adapters are taken for Llama and Gemma 2 bases only.

It does not cover: Go templates and Modelfile parameters, which it keeps and doesn't run: answers are rendered by the tokenizer of the base.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
import threading
from pathlib import Path

from core.config import Settings
from core.providers.loading import load_tokenizer
from core.providers.local import LocalModel, connect
from finetune.export import load_gguf

sys.path.append(str(Path(__file__).parents[1] / "providers"))
from ollama_stand_in import OllamaStandIn
from stand_in import Handler


class Making(Handler):
    """One connection that takes files too."""

    server: OllamaMaker

    def do_POST(self) -> None:
        if not self.path.startswith("/api/blobs/"):
            return super().do_POST()
        data = self._body()
        digest = self.path.removeprefix("/api/blobs/")
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            return self.answer(400, b'{"error": "digest mismatch"}')
        self.server.blobs[digest] = data
        return self.answer(201, b"")

    def do_DELETE(self) -> None:
        name = json.loads(self._body())["model"]
        self.server.asked.append({"path": self.path, "model": name})
        there = self.server.made.pop(name, None)
        self.answer(*((200, b"") if there else (404, b'{"error": "model not found"}')))

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)


class OllamaMaker(OllamaStandIn):
    """`base` serves as toy:latest, of the architecture `build`. `forgets`: what is made answers as the base."""

    def __init__(self, base: str = "embedded", build: str = "llama") -> None:
        self._asked = threading.local()
        self.served, self.build, self.forgets = base, build, False
        self.blobs: dict[str, bytes] = {}
        self.made: dict[str, tuple[LocalModel, dict]] = {"toy:latest": (self._open(base), {})}
        self._opened = [self.made["toy:latest"][0]]
        super().__init__(self._opened[0])
        self.RequestHandlerClass = Making

    @property
    def model(self) -> LocalModel:
        return self._asked.model

    @model.setter
    def model(self, model: LocalModel) -> None:
        self._asked.model = model

    def reply(self, handler: Handler, body: dict) -> None:
        if handler.path == "/api/tags":
            return self._send(handler, {"models": [{"name": tag, "model": tag, "size": 1, "digest": "0" * 64} for tag in self.made]})
        if handler.path == "/api/create":
            return self._create(handler, body)
        tag = body.get("model", "")
        found = self.made.get(tag) or self.made.get(f"{tag}:latest")
        if found:
            self.model = found[0]
        return super().reply(handler, {**body, "model": "embedded" if found else tag})

    def shut(self) -> None:
        for model in self._opened:
            asyncio.run(model.close())

    def _open(self, path: str) -> LocalModel:
        return connect(path, Settings(_env_file=None, DEVICE="cpu", THREADS=1, ADAPTERS="merged"))

    def _create(self, handler: Handler, body: dict) -> None:
        handler.begin_lines()
        if body.get("adapters") and self.build not in ("llama", "gemma2"):
            handler.line({"error": "unsupported architecture"})
        else:
            handler.line({"status": "parsing GGUF" if body.get("files") else "converting adapter"})
            model = self._make(body)
            self._opened.append(model)
            self.made[body["model"]] = (self.made["toy:latest"][0] if self.forgets else model, body)
            handler.line({"status": "success"})
        handler.end_lines()

    def _make(self, body: dict) -> LocalModel:
        with tempfile.TemporaryDirectory() as place:
            for name, digest in {**(body.get("files") or {}), **(body.get("adapters") or {})}.items():
                (Path(place) / name).write_bytes(self.blobs[digest])
            if body.get("adapters"):
                return self._open(place)
            from core.providers.host import Host

            (name,) = body["files"]
            return LocalModel(Host(load_gguf(Path(place) / name), load_tokenizer(self.served), "gguf"), "gguf")
