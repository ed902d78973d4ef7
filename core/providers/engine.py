"""One causal model, one batch that rows join and leave at every step; what prompts have in common is read once.

Not safe to call from two threads: core.providers.host gives it a thread of its own. A row's draws come from its own seed and step
number, so that its neighbours can't change them (but for the last digits of float sums, which depend on the shape of the batch and on
what was read before). Rows may be answered by different adapters of the model. Layers with a sliding window keep all positions and are
masked. Models that remember in another way than by attention are refused. Left out: compiled decoding.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from core.errors import ProviderError
from core.providers.draw import Drawn, draw, seed_of, uniform
from core.providers.fused import fuse
from core.providers.fused_lora import Loras
from core.providers.prefixes import Node, PrefixCache, stems
from core.providers.slots import SlotCache
from core.providers.texts import Texts
from core.providers.traits import end_tokens, free_memory, kinds_of, reach_of
from core.types import Completion, Sampling

log = logging.getLogger(__name__)

PREFILL_TOKENS = 2_048  # of one forward pass, padding included: bounds the memory that long prompts take
PREFIX_BYTES = 64 << 20
LEAST_SHARED = 16  # tokens; copying fewer costs as much as reading them
BASE = "__base__"  # PEFT's word for no adapter
PROOF = 6  # tokens
TOLERANCE = 0.05  # of the range of the logits; half precision stays well below it
Ids = list[int]


@dataclass(slots=True, eq=False)
class Job:
    """n completions of one prompt, given as token ids; samples count from `first`. Filled in when its rows are done.

    `adapter` is the name of one that is loaded on the model, None the model as it is.
    """

    prompt: Ids
    n: int
    sampling: Sampling
    banned: int | None = None
    first: int = 0
    adapter: str | None = None
    texts: list[Completion | None] = field(default_factory=list)
    completion_tokens: int = 0

    def __post_init__(self) -> None:
        self.texts = [None] * self.n

    @property
    def done(self) -> bool:
        """True when all samples are there."""
        return all(text is not None for text in self.texts)


@dataclass(slots=True, eq=False)
class _Row:
    job: Job
    sample: int
    seed: int
    limit: int
    written: Ids = field(default_factory=list)
    logprob: float = 0.0


class Engine:
    """`add` jobs, then call `step` until it has returned them all. `rows` bounds the batch, not the queue.

    Raises ProviderError for a model that it can't decode as the model itself would.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, rows: int = 96, prefix_bytes: int = PREFIX_BYTES) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.device = model.device
        self.slots = rows
        self.mixes = False  # True once the model takes `adapter_names`
        self.prefixes = PrefixCache(prefix_bytes)
        config = model.config.get_text_config()
        self.context = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
        self._dtype = model.dtype
        self._reach = reach_of(config)
        self._keeps_few = "logits_to_keep" in inspect.signature(getattr(model, "get_base_model", lambda: model)().forward).parameters
        self._ends = end_tokens(model, tokenizer)
        self._queue: deque[Job] = deque()
        self._rows: list[_Row] = []
        self._lengths = np.zeros(rows, dtype=np.int64)
        self._last = torch.zeros(rows, dtype=torch.long, device=self.device)
        self._cache = SlotCache(config.num_hidden_layers, rows, self.device)
        self._fused = fuse(model, kinds_of(config))
        self.loras = self._fused and Loras(self._fused, self._reach, self._base, self.probe, TOLERANCE)
        self._memory = free_memory(self.device) // 2
        self._texts = Texts(tokenizer)
        self._prove()
        self._cache.rest(kept=0)

    @property
    def busy(self) -> bool:
        """True while a job is unfinished."""
        return bool(self._rows or self._queue)

    def add(self, job: Job) -> None:
        """Queue a job. Raises ValueError if it can never be served: more samples than rows, or no room in the context."""
        if job.n > self.slots or not 0 < len(job.prompt) < self.context:
            raise ValueError(f"{job.n} samples of {len(job.prompt)} tokens: at most {self.slots} rows and {self.context} tokens")
        self._queue.append(job)

    @torch.inference_mode()
    def drop(self, job: Job) -> None:
        """Forget a job: nobody waits for it any more."""
        if job in self._queue:
            self._queue.remove(job)
        for place in reversed([i for i, row in enumerate(self._rows) if row.job is job]):
            self._remove(place)

    def serves(self, adapter: str | None) -> bool:
        """True while a job for that adapter is unfinished."""
        return any(job.adapter == adapter for job in self._queue) or any(row.job.adapter == adapter for row in self._rows)

    @torch.inference_mode()
    def step(self) -> list[Job]:
        """Admit what there is room for, decode one token of every row, return the jobs that are done."""
        finished = self._admit()
        if self._rows:
            finished += self._emit(self._decode())
        return finished

    @torch.inference_mode()
    def probe(self, prompt: Ids, adapter: str | None = None) -> list[float]:
        """The logits after a prompt, first 64 of them: two sets of weights that agree here answer alike."""
        out = self.model(torch.tensor([prompt], device=self.device), use_cache=False, **self._adapters([adapter]))
        return [float(x) for x in out.logits[0, -1, :64].float()]

    @torch.inference_mode()
    def _prove(self) -> None:
        """Prefill and decode a few tokens, then ask the model for the same without a cache: the logits must agree."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        ids = [(7 + 11 * i) % vocabulary for i in range(PROOF)]
        kind = type(self.model).__name__
        try:
            job = Job(ids[:-1], 1, Sampling())
            self._read([job.prompt], [None], [0], [0])
            self._open_rows(job)
            self._last[0] = ids[-1]
            got = self._decode()[0]
            expected = self.model(torch.tensor([ids], device=self.device), use_cache=False).logits[0, -1].float()
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            raise ProviderError(f"{kind} can't be decoded in process ({error}): serve it with Ollama or another server") from error
        finally:
            self._rows.clear()
        tolerance = TOLERANCE * float(expected.max() - expected.min())
        if float((got - expected).abs().max()) > tolerance:
            raise ProviderError(f"{kind} does not decode in process as it should: serve it with Ollama or another server")
        try:
            got = self._read([ids], [None], [0], [PROOF // 2])[0]
            told = "other logits" if float((got - expected).abs().max()) > tolerance else None
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            told = str(error)
        if told:
            log.warning("%s can't go on from what it has read (%s): prompts that begin alike are read one by one", kind, told)
            self.prefixes.limit = 0

    def _admit(self) -> list[Job]:
        finished: list[Job] = []
        while taken := self._next_jobs():
            finished += self._prefill(taken)
        return finished

    def _next_jobs(self) -> list[Job]:
        """From the front of the queue, as many as there are free rows and memory for."""
        taken: list[Job] = []
        if not self._queue:
            return taken
        rows = len(self._rows)
        if not rows:
            self._cache.rest()
        longest = max((len(row.job.prompt) + row.limit for row in self._rows), default=0)
        while self._queue:
            job = self._queue[0]
            rows += job.n
            longest = max(longest, min(self.context, len(job.prompt) + job.sampling.max_tokens))
            if rows > self.slots or (rows > job.n and self._cache.bytes_for(rows, longest) > self._memory):
                break
            taken.append(self._queue.popleft())
        return taken

    def _prefill(self, jobs: Sequence[Job]) -> list[Job]:
        """Read the prompts, what they share first and once, and draw the first token of every sample."""
        if self.prefixes.limit:
            self._read_stems(jobs)
        known = {id(job): self._known(job.adapter, job.prompt) for job in jobs}
        finished: list[Job] = []
        for part in _passes(jobs, [known[id(job)][1] for job in jobs]):
            base = len(self._rows)
            firsts = (base + np.cumsum([0, *(job.n for job in part[:-1])])).tolist()
            self._recall([(slot, known[id(job)][0]) for slot, job in zip(firsts, part, strict=True)])
            starts = [known[id(job)][1] for job in part]
            logits = self._read([job.prompt for job in part], [job.adapter for job in part], firsts, starts)
            for i, (job, slot) in enumerate(zip(part, firsts, strict=True)):
                self._remember(job.adapter, job.prompt, slot)
                if job.banned is not None:
                    logits[i, job.banned] = -torch.inf
                self._open_rows(job)
            counts = torch.tensor([job.n for job in part], device=self.device)
            finished += self._emit(logits.repeat_interleave(counts, dim=0), base)
        return finished

    def _read_stems(self, jobs: Sequence[Job]) -> None:
        """What these prompts have in common and nobody has read yet; longer ones go on from shorter ones."""
        for adapter in {job.adapter: None for job in jobs}:
            prompts = [job.prompt for job in jobs if job.adapter == adapter]
            for stem in stems(prompts, LEAST_SHARED, lambda ids, adapter=adapter: self._known(adapter, ids)[1]):  # type: ignore[misc]
                path, start = self._known(adapter, stem)
                slot = len(self._rows)
                self._recall([(slot, path)])
                self._read([stem], [adapter], [slot], [start])
                self._remember(adapter, stem, slot)

    def _known(self, adapter: str | None, prompt: Sequence[int]) -> tuple[list[tuple[Node, int]], int]:
        """What is remembered of a prompt but for its last token, which is read again for its logits."""
        path, length = self.prefixes.match(adapter, prompt, len(prompt) - 1)
        return (path, length) if length >= LEAST_SHARED else ([], 0)

    def _recall(self, paths: Sequence[tuple[int, list[tuple[Node, int]]]]) -> None:
        """Copy what is remembered into the slots, nodes that several of them share at once."""
        shared: dict[tuple[int, int], tuple[Node, list[int]]] = {}
        for slot, path in paths:
            for node, count in path:
                shared.setdefault((id(node), count), (node, []))[1].append(slot)
        self._cache.reserve(1 + max((slot for slot, _ in paths), default=0), max((node.end for node, _ in shared.values()), default=0))
        for (_, count), (node, slots) in shared.items():
            self._cache.write(slots, node.start, [(keys[:, :count], values[:, :count]) for keys, values in node.stretch])

    def _remember(self, adapter: str | None, prompt: Ids, slot: int) -> None:
        self.prefixes.insert(adapter, prompt, lambda start, end: self._cache.read(slot, start, end))

    def _read(self, prompts: Sequence[Ids], adapters: Sequence[str | None], slots: Sequence[int], starts: Sequence[int]) -> torch.Tensor:
        """The logits after each prompt. Its keys and values go into its slot, which holds those of its first `starts` tokens already."""
        lengths = [len(prompt) - start for prompt, start in zip(prompts, starts, strict=True)]
        width = max(lengths)
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        for row, prompt, start in zip(ids, prompts, starts, strict=True):
            row[: len(prompt) - start] = torch.tensor(prompt[start:])
        filled = max(starts) + width
        self._cache.reserve(max(slots) + 1, filled + 1)
        target = torch.tensor(slots, device=self.device)
        positions = torch.tensor(starts, device=self.device)[:, None] + torch.arange(width, device=self.device)
        if any(starts):
            self._cache.further(target, positions, filled)
        else:
            self._cache.fresh(target)
        last = torch.tensor([length - 1 for length in lengths], device=self.device)
        # padding may reach beyond the context, where a table of positions has no rows
        return self._forward(ids.to(self.device), positions, filled if any(starts) else 0, adapters, last)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, filled: int, adapters: Sequence[str | None], last: Any) -> torch.Tensor:
        """The logits of token `last` of each row (rows, vocabulary). `filled` is 0 for fresh prompts, which see themselves alone."""
        mixed = self.loras.of(adapters) if self.loras and any(adapters) else None
        if self._fused and (mixed or not any(adapters)):
            seen = filled or ids.shape[1]
            plain = not filled or int(positions.min()) + 1 == filled  # the causal triangle, or rows of one length
            masks = {k: None if plain and (w is None or w >= seen) else self._mask(positions, seen, w) for k, w in self._reach.items()}
            return self._fused(ids, self._cache, positions, masks, last, mixed)
        options = self._adapters(adapters)
        ends, places = None, last
        if filled:
            options |= {"attention_mask": self._masks(positions, filled), "position_ids": positions.clamp(max=self.context - 1)}
        if self._keeps_few and last is not None:
            ends, places = torch.unique(last, return_inverse=True)
            options["logits_to_keep"] = ends
        out = self.model(ids, past_key_values=self._cache, use_cache=True, **options)
        if places is None:
            places = torch.full((len(ids),), -1, device=self.device)
        logits: torch.Tensor = out.logits[torch.arange(len(ids), device=self.device), places].float()
        return logits

    def _base(self) -> Any:
        """The model itself, without what PEFT has put around it."""
        return self.model.get_base_model() if self.mixes else self.model

    def _adapters(self, names: Sequence[str | None]) -> dict[str, Any]:
        """Who answers each row, told to a model that has adapters."""
        return {"adapter_names": [name or BASE for name in names]} if self.mixes else {}

    def _open_rows(self, job: Job) -> None:
        first = len(self._rows)
        self._cache.reserve(first + job.n, len(job.prompt) + 1)
        if job.n > 1:
            self._cache.copy(slice(first, first + 1), slice(first + 1, first + job.n), len(job.prompt))
        limit = min(job.sampling.max_tokens, self.context - len(job.prompt))
        for sample in range(job.n):
            self._lengths[len(self._rows)] = len(job.prompt)
            self._rows.append(_Row(job, sample, seed_of(job.sampling.seed, job.first + sample), limit))

    def _decode(self) -> torch.Tensor:
        rows = len(self._rows)
        lengths = self._lengths[:rows]
        filled = int(lengths.max()) + 1
        self._cache.reserve(rows, filled)
        positions = torch.from_numpy(lengths.copy()).to(self.device)[:, None]
        self._cache.decode(positions, filled)
        logits = self._forward(self._last[:rows, None], positions, filled, [row.job.adapter for row in self._rows], None)
        self._lengths[:rows] += 1
        return logits

    def _masks(self, positions: torch.Tensor, filled: int) -> Any:
        """One mask, or one by the kind of layer where kinds differ."""
        masks = {kind: self._mask(positions, filled, window) for kind, window in self._reach.items()}
        return masks if len(masks) > 1 else masks.popitem()[1]

    def _mask(self, positions: torch.Tensor, filled: int, window: int | None) -> torch.Tensor:
        """Additive, (rows, 1, tokens, filled): a token sees itself and the past of its row, of that the last `window` positions."""
        places = torch.arange(filled, device=self.device)
        seen = places <= positions[..., None]
        if window is not None:
            seen &= places > positions[..., None] - window
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(self._dtype).min)[:, None]

    def _emit(self, logits: torch.Tensor, base: int = 0) -> list[Job]:
        """Draw a token for rows from `base` on, then take out the rows that are done."""
        rows = self._rows[base:]
        tokens, logprobs = draw(logits, [_wish(row) for row in rows])
        self._last[base : base + len(rows)] = tokens
        finished: list[Job] = []
        gone: list[int] = []
        for place, (row, token, logprob) in enumerate(zip(rows, tokens.tolist(), logprobs.tolist(), strict=True), base):
            row.logprob += logprob
            finish = self._finish(row, token)
            if finish is None:
                continue
            gone.append(place)
            if self._close(row, finish):
                finished.append(row.job)
        for place in reversed(gone):
            self._remove(place)
        return finished

    def _finish(self, row: _Row, token: int) -> Any:
        if token in self._ends:
            return "end"
        row.written.append(token)
        if any(self._texts.stops(row.job.prompt[-1], row.written, stop) for stop in row.job.sampling.stop):
            return "stop"
        return "length" if len(row.written) >= row.limit else None

    def _close(self, row: _Row, finish: Any) -> bool:
        text = self._texts.written(row.job.prompt[-1], row.written)
        count = len(row.written) + (finish == "end")
        row.job.texts[row.sample] = Completion(text, finish, row.logprob / max(count, 1))
        row.job.completion_tokens += count
        return row.job.done

    def _remove(self, place: int) -> None:
        last = len(self._rows) - 1
        row = self._rows.pop()
        if place < last:
            self._rows[place] = row
            self._cache.copy(slice(last, last + 1), slice(place, place + 1), int(self._lengths[last]))
            self._lengths[place] = self._lengths[last]
            self._last[place] = self._last[last]


def _wish(row: _Row) -> Drawn:
    sampling = row.job.sampling
    return Drawn(sampling.temperature, sampling.top_p, uniform(row.seed, len(row.written)) if sampling.temperature > 0 else 0.0)


def _passes(jobs: Sequence[Job], starts: Sequence[int]) -> list[list[Job]]:
    """Jobs to read in one go: those that begin at their first token apart from those that go on, of at most PREFILL_TOKENS with padding."""
    passes: list[list[Job]] = []
    for go_on in (False, True):
        width = 0
        part: list[Job] = []
        for job, start in zip(jobs, starts, strict=True):
            if bool(start) is not go_on:
                continue
            width = max(width, len(job.prompt) - start)
            if part and width * (len(part) + 1) > PREFILL_TOKENS:
                passes.append(part)
                width, part = len(job.prompt) - start, []
            part.append(job)
        if part:
            passes.append(part)
    return passes
