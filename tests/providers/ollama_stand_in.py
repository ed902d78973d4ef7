"""A stand-in for Ollama that speaks its HTTP API on loopback and generates with the embedded model.

It covers POST /api/chat (in lines and whole, stop strings cut off, seeds, a last assistant message that is continued, think false,
`_debug_render_only`), POST /api/show, GET /api/tags and GET /api/version, as far as Ollama's Python client reads them.

It does not cover: /api/generate, embeddings, pulling, pushing, creating, copying and deleting models, /api/ps, keys and the cloud; images,
tools, formats, thinking, log-probabilities; any option but temperature, top_p, num_predict, stop and seed; Go templates. It generates the
whole text before it sends the first line, so that a closed connection saves it nothing; it loads one model once, so that keep_alive
changes nothing; it never says that it is busy. Durations are zero.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from stand_in import Handler, StandIn

from core.types import Message, Model, Request, Sampling

NAME = "embedded:latest"
NOTHING = {"total_duration": 0, "load_duration": 0, "prompt_eval_duration": 0, "eval_duration": 0}


class OllamaStandIn(StandIn):
    """Serves `model`, which is one of this process, under the name embedded."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def reply(self, handler: Handler, body: dict) -> None:
        if handler.path == "/api/version":
            self._send(handler, {"version": "0.12.0"})
        elif handler.path == "/api/tags":
            self._send(handler, {"models": [{"name": NAME, "model": NAME, "size": 1, "digest": "0" * 64}]})
        elif handler.path not in ("/api/show", "/api/chat"):
            handler.answer(404, b"404 page not found")
        elif body.get("model") not in (NAME, "embedded"):
            handler.answer(404, json.dumps({"error": f"model '{body.get('model')}' not found"}).encode())
        elif handler.path == "/api/show":
            self._send(handler, {"template": "{{ .Prompt }}", "capabilities": ["completion"], "model_info": {}, "details": {}})
        else:
            self._chat(handler, body)

    def _chat(self, handler: Handler, body: dict) -> None:
        *before, last = [Message(m["role"], m["content"]) for m in body["messages"]]
        begun = last.content if last.role == "assistant" else ""
        messages = tuple(before) if begun else (*before, last)
        if body.get("_debug_render_only"):
            self._send(handler, {"model": NAME, "done": False, "_debug_info": {"rendered_template": _render(messages) + begun}})
            return
        sampling = _sampling(body.get("options") or {})
        reply = asyncio.run(self.model.complete(Request(messages, 1, sampling, prefix=begun)))
        (said,) = reply.completions
        text = next((said.text[: -len(s)] for s in sampling.stop if said.finish == "stop" and said.text.endswith(s)), said.text)
        end = {
            "done_reason": "length" if said.finish == "length" else "stop",
            "prompt_eval_count": reply.usage.prompt_tokens,
            "eval_count": reply.usage.completion_tokens,
            **NOTHING,
        }
        if body.get("stream", True):
            self._stream(handler, text, end)
        else:
            self._send(handler, _part(text, done=True, **end))
        self.pay(reply.usage.prompt_tokens, reply.usage.completion_tokens)

    def _stream(self, handler: Handler, text: str, end: dict) -> None:
        handler.begin_lines()
        for at in range(0, len(text), 3):
            handler.line(_part(text[at : at + 3]))
        handler.line(_part("", done=True, **end))
        handler.end_lines()

    def _send(self, handler: Handler, record: dict) -> None:
        handler.answer(200, json.dumps(record).encode())


def _render(messages: tuple[Message, ...]) -> str:
    return "".join(f"<|{m.role}|>{m.content}\n" for m in messages) + "<|assistant|>"


def _sampling(options: dict[str, Any]) -> Sampling:
    return Sampling(
        options.get("temperature", 0.8),
        options.get("top_p", 0.9),
        options.get("num_predict", 128),
        tuple(options.get("stop", ())),
        options.get("seed"),
    )


def _part(content: str, done: bool = False, **more: Any) -> dict:
    return {"model": NAME, "created_at": "2025-11-22T08:00:00Z", "message": {"role": "assistant", "content": content}, "done": done, **more}
