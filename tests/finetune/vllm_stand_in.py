"""A stand-in for vLLM on loopback: what its documentation says of the runtime LoRA endpoints, answered with models in process.

It covers GET /v1/models (base and adapters with root and parent), POST /v1/load_lora_adapter and /v1/unload_lora_adapter (off unless
updating is allowed; a name that is taken, a path that is not on its disk, a rank above the limit are refused), POST /v1/completions with
token ids and log-probabilities of one token, and POST /v1/chat/completions.

It does not cover: anything of the engine, prefix caches, load_inplace, resolver plugins, streaming, API keys of several users. `ignores`
has it accept adapters and answer as its base; `stale` has it serve the first weights that it saw of an adapter, whatever the version.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import torch

from core.config import Settings
from core.providers.local import LocalModel, connect
from core.types import Message, Request, Sampling

sys.path.append(str(Path(__file__).parents[1] / "providers"))
from stand_in import Handler, StandIn

NOT_FOUND = {"detail": "Not Found"}


class VLLMStandIn(StandIn):
    """Serves `base`, a directory or "embedded", under the name toy/base. `root` is where its disk begins: paths outside are not there."""

    def __init__(self, base: str = "embedded", *, root: Path | None = None, updating: bool = True, max_rank: int = 16) -> None:
        super().__init__()
        self.updating, self.max_rank, self.root = updating, max_rank, root
        self.ignores = self.stale = False
        self.models: dict[str, LocalModel] = {"toy/base": self._open(base)}
        self.places: dict[str, str] = {}
        self._first: dict[str, LocalModel] = {}

    def reply(self, handler: Handler, body: dict) -> None:
        known = {
            "/v1/models": self._list,
            "/v1/load_lora_adapter": self._load,
            "/v1/unload_lora_adapter": self._unload,
            "/v1/completions": self._complete,
            "/v1/chat/completions": self._chat,
        }
        if handler.path not in known or (handler.path.endswith("_lora_adapter") and not self.updating):
            return self._send(handler, 404, NOT_FOUND)
        return known[handler.path](handler, body)

    def shut(self) -> None:
        for model in {id(model): model for model in [*self.models.values(), *self._first.values()]}.values():
            asyncio.run(model.close())

    def _open(self, path: str) -> LocalModel:
        return connect(path, Settings(_env_file=None, DEVICE="cpu", THREADS=1, ADAPTERS="shared"))

    def _list(self, handler: Handler, _: dict) -> None:
        listed = [{"id": "toy/base", "object": "model", "root": "toy/base", "parent": None}]
        listed += [{"id": name, "object": "model", "root": place, "parent": "toy/base"} for name, place in self.places.items()]
        self._send(handler, 200, {"object": "list", "data": listed})

    def _load(self, handler: Handler, body: dict) -> None:
        name, place = body["lora_name"], Path(body["lora_path"])
        there = place.is_dir() and (self.root is None or place.is_relative_to(self.root))
        if name in self.models:
            return self._error(handler, 400, "InvalidUserInput", f"The lora adapter '{name}' has already been loaded.")
        if not there:
            return self._error(handler, 404, "NotFoundError", f"Loading lora {name} failed: No adapter found for {place}")
        rank = json.loads((place / "adapter_config.json").read_text())["r"]
        if rank > self.max_rank:
            return self._error(handler, 400, "BadRequestError", f"LoRA rank {rank} is greater than max_lora_rank {self.max_rank}.")
        model = self.models["toy/base"] if self.ignores else self._open(str(place))
        if self.stale:
            model = self._first.setdefault(name.partition("@")[0], model)
        self.models[name], self.places[name] = model, str(place)
        return self._text(handler, f"Success: LoRA adapter '{name}' added successfully.")

    def _unload(self, handler: Handler, body: dict) -> None:
        if body["lora_name"] not in self.places:
            return self._error(handler, 404, "NotFoundError", f"The lora adapter '{body['lora_name']}' cannot be found.")
        del self.models[body["lora_name"]], self.places[body["lora_name"]]
        return self._text(handler, f"Success: LoRA adapter '{body['lora_name']}' removed successfully.")

    def _complete(self, handler: Handler, body: dict) -> None:
        if (model := self._model(handler, body)) is None:
            return
        told = _logprobs(model, body["prompt"], body["logprobs"])
        logprobs = {"tokens": [next(iter(told))], "top_logprobs": [told]}
        self._send(handler, 200, {"choices": [{"text": next(iter(told)), "logprobs": logprobs, "finish_reason": "length"}]})

    def _chat(self, handler: Handler, body: dict) -> None:
        if (model := self._model(handler, body)) is None:
            return
        messages = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
        sampling = Sampling(body["temperature"], max_tokens=body["max_tokens"])
        (said,) = asyncio.run(model.complete(Request(messages, 1, sampling))).completions
        finish = "length" if said.finish == "length" else "stop"
        message = {"role": "assistant", "content": said.text}
        self._send(handler, 200, {"id": "1", "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": {}})

    def _model(self, handler: Handler, body: dict) -> LocalModel | None:
        if body["model"] not in self.models:
            self._error(handler, 404, "NotFoundError", f"The model `{body['model']}` does not exist.")
        return self.models.get(body["model"])

    def _error(self, handler: Handler, status: int, kind: str, message: str) -> None:
        self._send(handler, status, {"error": {"message": message, "type": kind, "param": None, "code": status}})

    def _send(self, handler: Handler, status: int, record: dict) -> None:
        handler.answer(status, json.dumps(record).encode())

    def _text(self, handler: Handler, text: str) -> None:
        handler.answer(200, text.encode())


def _logprobs(model: LocalModel, ids: list[int], count: int) -> dict[str, float]:
    def asked() -> torch.Tensor:
        engine, adapter = model.host.engine, model._adapter
        names = {"adapter_names": [adapter.name if adapter else "__base__"]} if engine.mixes else {}
        if adapter:
            assert model.host.adapters.bring(adapter)
        with torch.inference_mode():
            return torch.log_softmax(engine.model(torch.tensor([ids]), use_cache=False, **names).logits[0, -1].float(), dim=-1)

    values, tokens = model.host.call(asked).topk(count)
    return {model.tokenizer.decode([int(token)]): float(value) for value, token in zip(values, tokens, strict=True)}
