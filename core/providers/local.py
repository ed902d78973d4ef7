"""Models in this process: the embedded one, model directories, adapter directories, hub ids, through the engine on its own thread.

A model name that is an adapter directory is served as its base with the adapter merged in, so that it decodes as fast as the base.
Searches that run side by side open a `session` each: the engine waits for all of them to bring their next request before it goes on,
so that batches, and with them the last digits of float sums, are the same in every run. Code from a model's repository is never run.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config import EMBEDDED, Settings
from core.errors import ConfigError, ProviderError
from core.providers.remote import first_line
from core.types import Message, Reply, Request, Usage

if TYPE_CHECKING:
    from core.providers.engine import Engine, Job

log = logging.getLogger(__name__)

EMBEDDED_DIRECTORY = Path(__file__).parent.parent / "embedded"
PATIENCE = 2.0
PROBE = "Solve 17*6+23"


@dataclass(eq=False, slots=True)
class _Session:
    asked: int = 0
    late: bool = False


@dataclass(eq=False, slots=True)
class _Ticket:
    job: Job
    future: Future[None]
    session: _Session | None


_sessions: ContextVar[dict[LocalModel, _Session] | None] = ContextVar("sessions", default=None)


def connect_embedded(name: str, settings: Settings) -> LocalModel:
    """The model that ships with Ratchet."""
    return connect(str(EMBEDDED_DIRECTORY), settings, name=name)


def connect(path: str, settings: Settings, name: str | None = None) -> LocalModel:
    """Load a model directory, an adapter directory or a hub id. Raises ProviderError when that can't be done."""
    model, tokenizer = load(path, device=settings.DEVICE, dtype=settings.DTYPE)
    return LocalModel(model, tokenizer, name or path, rows=settings.BATCH_ROWS, threads=settings.THREADS)


def load(path: str, device: str = "auto", dtype: str = "auto") -> tuple[Any, Any]:
    """(model, tokenizer) in evaluation mode; an adapter is merged into its base. Raises ProviderError when that can't be done."""
    _require_local_extra()
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    chosen = _device(device)
    kind = getattr(torch, dtype) if dtype != "auto" else (torch.float32 if chosen == "cpu" else torch.bfloat16)
    base = base_of(path)
    _check_directory(path, base)
    tokenizer = _load_tokenizer(path if (Path(path) / "tokenizer_config.json").is_file() else base)
    return _load_model(path, base, kind).to(chosen).eval(), tokenizer


def is_adapter(path: str) -> bool:
    """True for a directory that holds a PEFT adapter."""
    return (Path(path) / "adapter_config.json").is_file()


def base_of(path: str) -> str:
    """The base model of an adapter directory; any other name is its own base, "embedded" the directory that ships."""
    import json

    if path == EMBEDDED:
        return str(EMBEDDED_DIRECTORY)
    if not is_adapter(path):
        return path
    config = Path(path) / "adapter_config.json"
    try:
        base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ProviderError(f"can't read {config} ({error}): fetch or train the adapter again") from error
    if not base:
        raise ProviderError(f"{config} does not name its base model: write it there as base_model_name_or_path")
    here = Path(path) / base
    return str(here.resolve()) if base.startswith(".") and here.exists() else str(base)


class LocalModel:
    """A model in this process, as a `core.types.Model`. Safe to use from any thread and any event loop."""

    def __init__(self, model: Any, tokenizer: Any, name: str, *, rows: int = 96, threads: int = 0) -> None:
        from core.providers.engine import Engine

        self.name = name
        self.tokenizer = tokenizer
        self.fingerprint: str | None = fingerprint(model)
        self._engine: Engine = Engine(model, tokenizer, rows)
        self._threads = threads
        self._encode("")  # switches off the padding that a tokenizer file may ask for: later it would clash with the engine's decoding
        self._longest_token = max(map(len, tokenizer.get_vocab()))
        self._render = lru_cache(maxsize=4096)(self._render_uncached)
        self._turn = threading.Condition(threading.RLock())
        self._waiting: list[_Ticket] = []
        self._sessions: set[_Session] = set()
        self._held: dict[asyncio.AbstractEventLoop, list[_Ticket]] = {}
        self._ended: ProviderError | None = None
        self._thread = threading.Thread(target=self._serve, name=f"engine {name}", daemon=True)
        self._thread.start()

    async def complete(self, request: Request) -> Reply:
        """n samples; a row's draws depend on its seed alone. Raises ProviderError when the prompt does not fit the context."""
        jobs = self._jobs(request)
        await asyncio.gather(*(asyncio.wrap_future(self._enqueue(job)) for job in jobs))
        texts = tuple(text for job in jobs for text in job.texts if text is not None)
        written = sum(job.completion_tokens for job in jobs)
        return Reply(texts, Usage(1, len(jobs[0].prompt), written, 0.0))

    async def close(self) -> None:
        """Stop the engine's thread; requests under way fail."""
        self._end(ProviderError(f"{self.name} was closed"))
        await asyncio.to_thread(self._thread.join)

    @contextmanager
    def session(self) -> Iterator[None]:
        """While it is open, the engine waits for this client's next request before it decodes on, for up to PATIENCE seconds."""
        session = _Session()
        with self._turn:
            self._sessions.add(session)
        before = _sessions.get() or {}
        _sessions.set({**before, self: session})
        try:
            yield
        finally:
            _sessions.set({model: open_ for model, open_ in (_sessions.get() or {}).items() if open_ is not session})
            with self._turn:
                self._sessions.discard(session)
                self._turn.notify_all()

    def probe(self) -> list[float]:
        """The logits of this model on a fixed prompt: what it does, as opposed to what it is called."""
        return self._engine.probe(list(self._render((Message("user", PROBE),))))

    def _jobs(self, request: Request) -> list[Job]:
        from core.providers.engine import Job

        least = (len(request.messages[-1].content) + len(request.prefix)) // self._longest_token
        self._check_length(least, f"at least {least}")  # a megabyte need not be read to be refused
        prompt = list(self._render(request.messages))
        if request.prefix:
            prompt += self._encode(request.prefix)
        self._check_length(len(prompt), str(len(prompt)))
        banned = self._encode(request.banned_start)[0] if request.banned_start else None
        rows = self._engine.slots
        return [Job(prompt, min(rows, request.n - first), request.sampling, banned, first) for first in range(0, request.n, rows)]

    def _check_length(self, tokens: int, told: str) -> None:
        if tokens >= self._engine.context:
            raise ProviderError(
                f"the question and the work so far are {told} tokens, {self.name} takes {self._engine.context}: shorten them"
            )

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _render_uncached(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        if not getattr(self.tokenizer, "chat_template", None):
            text = "\n\n".join(m.content for m in messages) + "\n\n"
            return tuple(self.tokenizer(text)["input_ids"])
        return tuple(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True)["input_ids"])

    def _enqueue(self, job: Job) -> Future[None]:
        """Held back until the event loop has run all that is ready, so that what is asked together arrives together."""
        ticket = _Ticket(job, Future(), (_sessions.get() or {}).get(self))
        loop = asyncio.get_running_loop()
        held = self._held.setdefault(loop, [])
        if not held:
            loop.call_soon(self._submit, loop)
        held.append(ticket)
        return ticket.future

    def _submit(self, loop: asyncio.AbstractEventLoop) -> None:
        tickets = self._held.pop(loop)
        with self._turn:
            self._waiting += tickets
            for ticket in tickets:
                if ticket.session:
                    ticket.session.asked += 1
                    ticket.session.late = False
            if self._ended:
                self._refuse_waiting(self._ended)
            self._turn.notify_all()

    def _serve(self) -> None:
        import torch

        if self._threads:
            torch.set_num_threads(self._threads)
        running: dict[int, _Ticket] = {}
        while self._wait():
            try:
                self._admit(running)
                finished = [running.pop(id(job)) for job in self._engine.step()]
            except Exception as error:  # noqa: BLE001  every waiting client must hear of it, whatever it was
                self._end(ProviderError(f"{self.name} failed while decoding: {error}"))
                break
            self._answered(finished)
            for ticket in finished:
                ticket.future.set_result(None)
        for ticket in running.values():
            ticket.future.set_exception(self._ended)
        with self._turn:
            self._refuse_waiting(self._ended)

    def _wait(self) -> bool:
        """Until there is work and every session has asked for its share of it. False when the model was closed."""
        with self._turn:
            self._turn.wait_for(lambda: self._ended or self._waiting or self._engine.busy)
            if not self._turn.wait_for(lambda: self._ended or all(s.asked or s.late for s in self._sessions), timeout=PATIENCE):
                for session in self._sessions:
                    session.late = not session.asked  # not waited for again until it comes back
            return self._ended is None

    def _admit(self, running: dict[int, _Ticket]) -> None:
        """Hand what is waiting to the engine, in an order that does not depend on who was quicker."""
        with self._turn:
            arrived = sorted(self._waiting, key=lambda t: (t.job.sampling.seed or 0, t.job.prompt, t.job.first))
            self._waiting.clear()
        accepted = [ticket for ticket in arrived if ticket.future.set_running_or_notify_cancel()]
        self._answered([ticket for ticket in arrived if ticket not in accepted])
        running.update({id(ticket.job): ticket for ticket in accepted})
        for ticket in accepted:
            self._engine.add(ticket.job)

    def _answered(self, tickets: list[_Ticket]) -> None:
        with self._turn:
            for ticket in tickets:
                if ticket.session:
                    ticket.session.asked -= 1

    def _end(self, reason: ProviderError) -> None:
        with self._turn:
            self._ended = self._ended or reason
            self._turn.notify_all()

    def _refuse_waiting(self, reason: ProviderError | None) -> None:
        for ticket in self._waiting:
            if ticket.future.set_running_or_notify_cancel():
                ticket.future.set_exception(reason)
        self._waiting.clear()


def fingerprint(model: Any) -> str:
    """16 hex digits from up to 4,096 evenly spaced values of every tensor: other weights, other fingerprint."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(flat[:: max(1, flat.numel() // 4096)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_directory(path: str, base: str) -> None:
    """What the libraries would say of a wrong directory helps nobody."""
    if Path(path).is_dir() and base == path and not (Path(path) / "config.json").is_file():
        raise ProviderError(f"{path} holds no model: give a directory with config.json and weights, or with adapter_config.json")
    looks_local = base.startswith((".", "/", "~")) or base.count("/") > 1
    if base != path and looks_local and not Path(base).is_dir():
        raise ProviderError(f"the adapter {path} was made for the base model {base}, which is not there: put it back or train again")


def _load_tokenizer(place: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if Path(place).is_dir():
            raise ProviderError(f"no tokenizer in {place}: save one there with tokenizer.save_pretrained({place!r})") from error
        raise ProviderError(f"can't fetch {place} from the Hub: {first_line(error)}") from error


def _load_model(path: str, base: str, dtype: Any) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, trust_remote_code=False)
        if is_adapter(path):
            from peft import PeftModel

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # peft reads a name that transformers is about to rename
                model = PeftModel.from_pretrained(model, path).merge_and_unload()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ProviderError(f"can't load the model {path}: {first_line(error)}") from error
    return model


def _device(name: str) -> str:
    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"DEVICE {name!r} is not usable here ({first_line(error)}): choose auto or cpu") from error
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _require_local_extra() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
    if missing:
        raise ConfigError(f'in-process models need {", ".join(missing)}: pip install "ratchet-agents[local]"')
