"""One causal model, one batch that rows join and leave at every step; the n samples of a request share one prefill.

Not safe to call from two threads: core.providers.local gives it a thread of its own. A row's draws come from its own seed and step
number, so that its neighbours can't change them (but for the last digits of float sums, which depend on the shape of the batch).
Layers with a sliding window keep all positions and are masked. Models that remember in another way than by attention are refused.
Left out: prefix sharing across requests, several adapters in one batch, compiled decoding.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from core.errors import ProviderError
from core.types import Completion, Sampling

GROWTH = 64
PREFILL_TOKENS = 2_048  # of one forward pass, padding included: bounds the memory that long prompts take
PROOF = 6  # tokens
HALF = "\ufffd"  # what half a character decodes to
TOLERANCE = 0.05  # of the range of the logits; half precision stays well below it
FULL, SLIDING = "full_attention", "sliding_attention"
Ids = list[int]


@dataclass(slots=True, eq=False)
class Job:
    """n completions of one prompt, given as token ids; samples count from `first`. Filled in when its rows are done."""

    prompt: Ids
    n: int
    sampling: Sampling
    banned: int | None = None
    first: int = 0
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


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, one slot a row, rows packed at the front. Shape (slots, heads, capacity, head size)."""

    is_sliding = False

    def __init__(self, slots: int, where: SlotCache) -> None:
        super().__init__()
        self.slots, self.where = slots, where

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make room for `capacity` positions in the shape that this model's heads have."""
        _, heads, _, size = key_states.shape
        self.keys = key_states.new_zeros((self.slots, heads, self.where.capacity, size))
        self.values = value_states.new_zeros((self.slots, heads, self.where.capacity, value_states.shape[-1]))
        self.is_initialized = True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Prefill writes whole prompts into fresh slots; decoding writes one position a row and returns all that is filled."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        where = self.where
        if where.prefill is not None:
            slots, length = where.prefill, key_states.shape[2]
            self.keys[slots, :, :length] = key_states
            self.values[slots, :, :length] = value_states
            return key_states, value_states
        rows = key_states.shape[0]
        self.keys[where.index[:rows], :, where.positions] = key_states[:, :, 0]
        self.values[where.index[:rows], :, where.positions] = value_states[:, :, 0]
        return self.keys[:rows, :, : where.filled], self.values[:rows, :, : where.filled]

    def grow(self, capacity: int) -> None:
        """More positions, the old ones kept."""
        if self.is_initialized:
            more = capacity - self.keys.shape[2]
            self.keys = torch.nn.functional.pad(self.keys, (0, 0, 0, more))
            self.values = torch.nn.functional.pad(self.values, (0, 0, 0, more))

    def copy(self, source: Any, target: Any, length: int) -> None:
        """Slot `source` into slot or slots `target`, up to `length` positions."""
        self.keys[target, :, :length] = self.keys[source, :, :length].clone()
        self.values[target, :, :length] = self.values[source, :, :length].clone()

    def get_seq_length(self) -> int:
        """Prefill starts at 0. When decoding, positions are given explicitly."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Prefill sees the prompts alone. When decoding, masks are given explicitly."""
        return (query_length if self.where.prefill is not None else self.where.filled), 0

    def get_max_length(self) -> int:
        """No limit of its own."""
        return -1


class SlotCache(Cache):  # type: ignore[misc]
    """All layers, and where the current forward pass reads and writes."""

    def __init__(self, layers: int, slots: int, device: torch.device) -> None:
        self.capacity = GROWTH
        self.prefill: torch.Tensor | None = None
        self.index = torch.arange(slots, device=device)
        self.positions = self.index[:0]
        self.filled = 0
        super().__init__(layers=[SlotLayer(slots, self) for _ in range(layers)])

    def reserve(self, positions: int) -> None:
        """Room for that many positions in every slot."""
        if positions > self.capacity:
            self.capacity = -(-positions // GROWTH) * GROWTH
            for layer in self.layers:
                layer.grow(self.capacity)

    def copy(self, source: Any, target: Any, length: int) -> None:
        """Slot to slot, in every layer."""
        for layer in self.layers:
            layer.copy(source, target, length)


class Engine:
    """`add` jobs, then call `step` until it has returned them all. `rows` bounds the batch, not the queue.

    Raises ProviderError for a model that it can't decode as the model itself would.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any, rows: int = 96) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.device = model.device
        self.slots = rows
        config = model.config.get_text_config()
        self.context = int(getattr(config, "max_position_embeddings", 0) or 1 << 30)
        self._reach = _reach(config)
        self._keeps_few = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._ends = _end_tokens(model, tokenizer)
        self._queue: deque[Job] = deque()
        self._rows: list[_Row] = []
        self._lengths = np.zeros(rows, dtype=np.int64)
        self._last = torch.zeros(rows, dtype=torch.long, device=self.device)
        self._cache = SlotCache(config.num_hidden_layers, rows, self.device)
        self._stop_tokens: dict[str, frozenset[int]] = {}
        self._prove()

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
    def step(self) -> list[Job]:
        """Admit what there is room for, decode one token of every row, return the jobs that are done."""
        finished = self._admit()
        if self._rows:
            finished += self._emit(self._decode())
        return finished

    @torch.inference_mode()
    def probe(self, prompt: Ids) -> list[float]:
        """The logits after a prompt, first 64 of them: two sets of weights that agree here answer alike."""
        out = self.model(torch.tensor([prompt], device=self.device), use_cache=False)
        return [float(x) for x in out.logits[0, -1, :64].float()]

    @torch.inference_mode()
    def _prove(self) -> None:
        """Prefill and decode a few tokens, then ask the model for the same without a cache: the logits must agree."""
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        ids = [(7 + 11 * i) % vocabulary for i in range(PROOF)]
        kind = type(self.model).__name__
        try:
            job = Job(ids[:-1], 1, Sampling())
            self._read([job], 0)
            self._open_rows(job)
            self._last[0] = ids[-1]
            got = self._decode()[0]
            expected = self.model(torch.tensor([ids], device=self.device), use_cache=False).logits[0, -1].float()
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
            raise ProviderError(f"{kind} can't be decoded in process ({error}): serve it with Ollama or another server") from error
        self._rows.clear()
        if float((got - expected).abs().max()) > TOLERANCE * float(expected.max() - expected.min()):
            raise ProviderError(f"{kind} does not decode in process as it should: serve it with Ollama or another server")

    def _admit(self) -> list[Job]:
        finished: list[Job] = []
        while taken := self._next_jobs():
            finished += self._prefill(taken)
        return finished

    def _next_jobs(self) -> list[Job]:
        """From the front of the queue, as many as there are free rows for and one forward pass should take."""
        taken: list[Job] = []
        free, longest = self.slots - len(self._rows), 0
        while self._queue and self._queue[0].n <= free:
            longest = max(longest, len(self._queue[0].prompt))
            if taken and longest * (len(taken) + 1) > PREFILL_TOKENS:
                break
            taken.append(self._queue.popleft())
            free -= taken[-1].n
        return taken

    def _prefill(self, jobs: Sequence[Job]) -> list[Job]:
        base = len(self._rows)
        logits = self._read(jobs, base)
        for i, job in enumerate(jobs):
            if job.banned is not None:
                logits[i, job.banned] = -torch.inf
            self._open_rows(job)
        return self._emit(logits.repeat_interleave(torch.tensor([job.n for job in jobs], device=self.device), dim=0), base)

    def _read(self, jobs: Sequence[Job], base: int) -> torch.Tensor:
        """The logits after each prompt, whose keys and values go into the first slot of each job."""
        lengths = [len(job.prompt) for job in jobs]
        self._cache.reserve(max(lengths) + 1)
        ids = torch.zeros((len(jobs), max(lengths)), dtype=torch.long)
        for i, job in enumerate(jobs):
            ids[i, : lengths[i]] = torch.tensor(job.prompt)
        firsts = base + np.cumsum([0, *(job.n for job in jobs[:-1])])
        ends = torch.tensor(sorted({length - 1 for length in lengths}), device=self.device)
        keep = {"logits_to_keep": ends} if self._keeps_few else {}
        self._cache.prefill = torch.tensor(firsts, device=self.device)
        try:
            out = self.model(ids.to(self.device), past_key_values=self._cache, use_cache=True, **keep)
        finally:
            self._cache.prefill = None
        last = torch.tensor([length - 1 for length in lengths], device=self.device)
        places = torch.searchsorted(ends, last) if keep else last
        logits: torch.Tensor = out.logits[torch.arange(len(jobs), device=self.device), places].float()
        return logits

    def _open_rows(self, job: Job) -> None:
        first = len(self._rows)
        if job.n > 1:
            self._cache.copy(slice(first, first + 1), slice(first + 1, first + job.n), len(job.prompt))
        limit = min(job.sampling.max_tokens, self.context - len(job.prompt))
        for sample in range(job.n):
            seed = _mix((job.sampling.seed or 0) * 0x9E3779B97F4A7C15 + job.first + sample)
            self._lengths[len(self._rows)] = len(job.prompt)
            self._rows.append(_Row(job, sample, seed, limit))

    def _decode(self) -> torch.Tensor:
        rows = len(self._rows)
        lengths = self._lengths[:rows]
        filled = int(lengths.max()) + 1
        self._cache.reserve(filled)
        positions = torch.from_numpy(lengths.copy()).to(self.device)
        self._cache.positions, self._cache.filled = positions, filled
        out = self.model(
            self._last[:rows, None],
            attention_mask=self._masks(positions, filled),
            position_ids=positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._lengths[:rows] += 1
        logits: torch.Tensor = out.logits[:, -1].float()
        return logits

    def _masks(self, positions: torch.Tensor, filled: int) -> Any:
        """One mask, or one by the kind of layer where kinds differ."""
        masks = {kind: self._mask(positions, filled, window) for kind, window in self._reach.items()}
        return masks if len(masks) > 1 else masks.popitem()[1]

    def _mask(self, positions: torch.Tensor, filled: int, window: int | None) -> torch.Tensor:
        """Additive, of shape (rows, 1, 1, filled): a row sees itself and its own past, of that the last `window` positions."""
        places = torch.arange(filled, device=self.device)[None]
        seen = places <= positions[:, None]
        if window is not None:
            seen &= places > positions[:, None] - window
        mask = torch.zeros(seen.shape, dtype=self.model.dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(self.model.dtype).min)[:, None, None]

    def _emit(self, logits: torch.Tensor, base: int = 0) -> list[Job]:
        """Draw a token for rows from `base` on, then take out the rows that are done."""
        rows = self._rows[base:]
        tokens, logprobs = _draw(logits, rows)
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
        for stop in row.job.sampling.stop:
            if token in self._ending(stop) and stop in self._text(row, last=len(stop) + 8):
                return "stop"
        return "length" if len(row.written) >= row.limit else None

    def _ending(self, stop: str) -> frozenset[int]:
        """The tokens that hold the last character of a stop string or a part of one, so that few steps need their text decoded."""
        if stop not in self._stop_tokens:
            pieces = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
            self._stop_tokens[stop] = frozenset(i for i, piece in enumerate(pieces) if stop[-1] in piece or HALF in piece)
        return self._stop_tokens[stop]

    def _text(self, row: _Row, last: int = 0) -> str:
        """What a row has written, or its last tokens. Decoded after the token before, since some tokenizers drop a first space."""
        ids = [row.job.prompt[-1], *row.written]
        ids = ids[-last - 1 :] if last else ids
        known, told = (self.tokenizer.decode(part, skip_special_tokens=True, clean_up_tokenization_spaces=False) for part in (ids[:1], ids))
        return str(told[len(known) :])

    def _close(self, row: _Row, finish: Any) -> bool:
        text = self._text(row)
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


def _reach(config: Any) -> dict[str, int | None]:
    """How many positions back each kind of attention layer sees, None for all. Raises ProviderError for layers of another kind."""
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or [SLIDING if window else FULL])
    if other := sorted(kinds - {FULL, SLIDING}):
        raise ProviderError(f"{config.model_type} models can't be decoded in process ({other[0]}): serve it with Ollama or another server")
    return {kind: window if kind == SLIDING else None for kind in sorted(kinds)}


def _end_tokens(model: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    told = getattr(model.generation_config, "eos_token_id", None)
    ends = told if isinstance(told, list) else [told]
    return frozenset(i for i in [*ends, tokenizer.eos_token_id] if i is not None)


def _draw(logits: torch.Tensor, rows: Sequence[_Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """One token a row: the likeliest at temperature 0, else by inverse transform from the row's own uniform number."""
    logprobs = torch.log_softmax(logits, dim=-1)
    tokens = logits.argmax(dim=-1)
    hot = [i for i, row in enumerate(rows) if row.job.sampling.temperature > 0]
    if hot:
        temperatures = torch.tensor([rows[i].job.sampling.temperature for i in hot], device=logits.device)
        chosen = logits if len(hot) == len(rows) else logits[hot]
        probabilities = torch.softmax(chosen / temperatures[:, None], dim=-1)
        if any(rows[i].job.sampling.top_p < 1 for i in hot):
            probabilities = _nucleus(probabilities, [rows[i].job.sampling.top_p for i in hot])
        uniform = torch.tensor([_uniform(rows[i].seed, len(rows[i].written)) for i in hot], device=logits.device)
        cumulative = probabilities.cumsum(dim=-1)
        drawn = (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(dim=-1)
        tokens[hot] = drawn.clamp_(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0]


def _nucleus(probabilities: torch.Tensor, top_p: Sequence[float]) -> torch.Tensor:
    """The smallest set of tokens that holds `top_p` of the probability (Holtzman et al., 2020)."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    # at 1 nothing may go, whatever the sums round to; at 0 the likeliest stays
    limits = torch.tensor([p if p < 1 else 2.0 for p in top_p], device=probabilities.device).clamp_(min=1e-9)[:, None]
    ordered[ordered.cumsum(dim=-1) - ordered >= limits] = 0
    return torch.zeros_like(probabilities).scatter_(1, order, ordered)


def _mix(x: int) -> int:
    """SplitMix64 (Steele, Lea, Flood, 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return x ^ x >> 31


def _uniform(seed: int, step: int) -> float:
    return (_mix(seed + step * 0x9E3779B97F4A7C15) >> 11) * 2.0**-53
