"""The adapters that are loaded on one base, and answer rows of the same batch (PEFT's mixed batches).

Only plain LoRA can be mixed: weights A and B of layers that the base has, and nothing else. What can't is merged into a copy of the base.

PEFT loads the first adapter of a base, since it has to wrap the base's layers for it. For later ones it would walk through the whole model
and draw weights that are overwritten at once (60 ms on a model of a million parameters): where the layers are wrapped already, A and B are
read beforehand, on any thread, and only hung in. Where the engine answers with tables of its own, these are made and asked beforehand too.
Call everything but `ahead`, `read` and `Weights.read` on the thread that owns the engine.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from core.errors import ProviderError
from core.providers.engine import BASE, TOLERANCE, Engine
from core.providers.loading import fingerprint_of, in_few_bits
from core.providers.remote import first_line

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PROOF = [5, 9, 2, 7, 5, 3]  # token ids that any vocabulary has
# What an adapter's config may say besides r, alpha and where: each of these makes it more than A and B.
EXTRAS = ("use_dora", "alora_invocation_tokens", "modules_to_save", "trainable_token_indices", "target_parameters", "layer_replication")
VARIANTS = ("arrow_config", "use_bdlora", "velora_config", "monteclora_config", "mica", "kasa_config", "lora_bias", "megatron_config")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter directory as it was when it was read; `name` says what is in its files."""

    folder: str
    name: str

    @classmethod
    def read(cls, folder: str) -> Adapter:
        """Raises ProviderError when its files can't be read."""
        return cls(folder, _name(*_files(folder)))


@dataclass(frozen=True, slots=True)
class Weights:
    """A and B of every layer that an adapter changes, by the layer's path in the base, and how strong they are."""

    rank: int
    alpha: float
    stabilised: bool
    layers: dict[str, tuple[Any, Any]] = field(repr=False)
    config: Any = field(repr=False)

    @classmethod
    def read(cls, adapter: Adapter) -> Weights | None:
        """None for an adapter whose strength differs from layer to layer, or that can't be read: PEFT has to say why.

        Raises ProviderError when its files are others than when the adapter was read.
        """
        from peft import LoraConfig
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            config = LoraConfig.from_pretrained(adapter.folder)
        except (OSError, ValueError, TypeError):
            config = None
        files = _files(adapter.folder)  # after the config was read, so that one which is changed meanwhile is noticed
        if _name(*files) != adapter.name:
            raise ProviderError(f"the adapter {adapter.folder} has changed on disk since it was connected: connect it again")
        try:
            tensors = load(files[1])
        except (ValueError, TypeError, SafetensorError):
            config = None
        if config is None or config.rank_pattern or config.alpha_pattern or config.fan_in_fan_out:
            return None
        config.inference_mode = True
        halves: dict[str, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            path, _, which = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
            halves.setdefault(path, {})[which] = tensor
        if any(found.keys() != {"lora_A", "lora_B"} or found["lora_A"].shape[0] != config.r for found in halves.values()):
            return None
        layers = {path: (_linear(found["lora_A"]), _linear(found["lora_B"])) for path, found in halves.items()}
        return cls(config.r, config.lora_alpha, bool(config.use_rslora), layers, config)

    @property
    def scaling(self) -> float:
        """By what B A is multiplied."""
        return self.alpha / (math.sqrt(self.rank) if self.stabilised else self.rank)

    def fingerprint(self, base: dict[str, Any]) -> str:
        """That of a base, its tensors by name, with the adapter merged in. On any thread."""
        import torch

        with torch.inference_mode():
            return fingerprint_of((name, self._merged(name.removesuffix(".weight"), tensor)) for name, tensor in base.items())

    def _merged(self, path: str, tensor: Any) -> Any:
        if path not in self.layers:
            return tensor
        a, b = (half.weight.to(tensor.device) for half in self.layers[path])
        return tensor.clone().add_((b @ a) * self.scaling)  # in the order and precision in which PEFT merges


class Adapters:
    """At most `limit` at once, the least recently used leave; one that rows are being written with stays."""

    def __init__(self, engine: Engine, limit: int) -> None:
        self.limit = limit
        self._engine = engine
        self.few_bits = in_few_bits(engine.model)
        self.listed: dict[str, Any] = {}  # see `base`
        self._loaded: OrderedDict[str, Adapter] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """Those loaded, the least recently used first."""
        return list(self._loaded)

    def bring(self, adapter: Adapter) -> bool:
        """Have it loaded. False when there is no room before rows are done. Raises ProviderError when it is not what it was."""
        if adapter.name in self._loaded:
            self._loaded.move_to_end(adapter.name)
            return True
        pieces = self.bringing(adapter)
        while True:
            try:
                next(pieces)
            except StopIteration:
                break
        for _ in self.leaving():
            pass
        return adapter.name in self._loaded

    def ahead(self, adapter: Adapter, weights: Weights, prompt: Sequence[int]) -> list[float] | None:
        """What it will answer to `prompt`, the first 64 logits, before it is brought and beside the engine's steps, on any thread.

        By the very matrices that its rows will be answered with. None where only the engine can tell, when it is there.
        """
        loras, places = self._engine.loras, self._places(weights)
        if not loras or not places:
            return None
        halves = {place: weights.layers[path] for path, place in places.items()}
        return loras.ahead(adapter.name, {place: (a.weight, b.weight, weights.scaling) for place, (a, b) in halves.items()}, prompt)

    def bringing(
        self, adapter: Adapter, weights: Weights | None = None, prompt: Sequence[int] = ()
    ) -> Generator[None, None, list[float] | None]:
        """The same in pieces, between which rows may go on. Returns what it answers to `prompt`, the first 64 logits; None without room.

        There may be one more than the limit then, until `leaving` has come to its end. Without a prompt nothing is asked.
        """
        if adapter.name in self._loaded:
            self._loaded.move_to_end(adapter.name)
            return self._asked(adapter.name, prompt)
        if len(self._loaded) + 1 - self.limit > len(self._idle()):
            return None
        if weights is None:
            weights = Weights.read(adapter)
            yield
        places = self._places(weights)
        if weights is None or not places:
            return (yield from self._load(adapter, list(prompt or PROOF)))
        self._hang_in(adapter, weights, places)
        yield
        return self._asked(adapter.name, prompt) if adapter.name in self._loaded else None  # it may have had to make room in between

    def leaving(self) -> Generator[None, None, None]:
        """Let go of those that are too many, the least recently used first and never the newest, in pieces."""
        while len(self._loaded) > self.limit and (idle := [name for name in self._idle() if name != self.names[-1]]):
            self._delete(idle[0])
            yield

    def base(self) -> dict[str, Any]:
        """The tensors of the base as if there were no adapters, by name."""
        if not self.listed:
            model = self._engine.model
            self.listed = dict(_merged_tensors(getattr(model, "get_base_model", lambda: model)(), ""))
        return self.listed

    def _asked(self, name: str, prompt: Sequence[int]) -> list[float]:
        return self._engine.probe(list(prompt), name) if prompt else []

    def _idle(self) -> list[str]:
        return [name for name in self._loaded if not self._engine.serves(name)]

    def fingerprint(self, adapter: Adapter, base: str) -> str:
        """That of the base with the adapter merged in; where weights are quantised and are not merged, of both names."""
        if self.few_bits:
            return hashlib.sha256(f"{base} {adapter.name}".encode()).hexdigest()[:16]
        return fingerprint_of(_merged_tensors(self._engine.model.get_base_model(), adapter.name))

    def _places(self, weights: Weights | None) -> dict[str, Any]:
        """The layers that it changes, if PEFT has wrapped all of them before; else none."""
        from peft import PeftModel
        from peft.tuners.lora import Linear

        model = self._engine.model
        if weights is None or not isinstance(model, PeftModel):
            return {}
        base = model.get_base_model()
        try:
            places = {path: base.get_submodule(path) for path in weights.layers}
        except AttributeError:
            return {}
        plain = all(type(place) is Linear and not place.fan_in_fan_out and not place.merged for place in places.values())
        return places if plain and all(_has_room(places[path], *pair) for path, pair in weights.layers.items()) else {}

    def _hang_in(self, adapter: Adapter, weights: Weights, places: dict[str, Any]) -> None:
        """As PEFT's `update_layer` does it. No row is answered by it yet, so that the others notice nothing."""
        from torch import nn

        name = adapter.name
        for path, place in places.items():
            a, b = weights.layers[path]
            device = place.get_base_layer().weight.device
            place.r[name], place.lora_alpha[name], place.scaling[name] = weights.rank, weights.alpha, weights.scaling
            place.use_rslora[name], place.use_dora[name], place.lora_bias[name] = weights.stabilised, False, False
            place.lora_dropout[name] = nn.Identity()
            place.lora_A[name], place.lora_B[name] = (half if half.weight.device == device else half.to(device) for half in (a, b))
        self._engine.model.peft_config[name] = weights.config
        self._loaded[name] = adapter

    def _load(self, adapter: Adapter, prompt: list[int]) -> Generator[None, None, list[float] | None]:
        from peft import PeftModel

        model, before = self._engine.model, self._engine.probe(prompt)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # peft reads a name that transformers is about to rename
                if isinstance(model, PeftModel):
                    model.load_adapter(adapter.folder, adapter_name=adapter.name, is_trainable=False)
                else:
                    model = PeftModel.from_pretrained(model, adapter.folder, adapter_name=adapter.name)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
            raise ProviderError(f"can't load the adapter {adapter.folder}: {first_line(error)}") from error
        self._engine.model, self._engine.mixes = model.eval(), True
        self._loaded[adapter.name] = adapter
        yield
        if adapter.name not in self._loaded:
            return None
        found, plain = self._beside(adapter.name, prompt)
        yield
        if adapter.name not in self._loaded:
            return None
        if not _alike(plain, before) or not _alike(self._alone(adapter.name, prompt), found):
            self._delete(adapter.name)
            raise ProviderError(f"the adapter {adapter.folder} answers otherwise beside others than alone")
        return found

    def _beside(self, name: str, prompt: list[int]) -> tuple[list[float], list[float]]:
        """The first 64 logits of an adapter and of the base, in one batch."""
        import torch

        engine = self._engine
        ids = torch.tensor([prompt, prompt], device=engine.device)
        with torch.inference_mode():
            logits = engine.model(ids, use_cache=False, adapter_names=[name, BASE]).logits[:, -1, :64].float().tolist()
        return logits[0], logits[1]

    def _alone(self, name: str, prompt: list[int]) -> list[float]:
        """Those of the adapter when it is the only one."""
        import torch

        engine, model = self._engine, self._engine.model
        model.set_adapter(name)
        with torch.inference_mode():
            alone: list[float] = model(torch.tensor([prompt], device=engine.device), use_cache=False).logits[0, -1, :64].float().tolist()
        return alone

    def _delete(self, name: str) -> None:
        model = self._engine.model
        del self._loaded[name]
        if self._loaded and name in model.active_adapters:
            model.set_adapter(next(reversed(self._loaded)))  # the active one can't leave without a warning
        model.delete_adapter(name)
        self._engine.prefixes.forget(name)


def _files(folder: str) -> tuple[bytes, bytes]:
    """Config and weights as they are now."""
    try:
        return (Path(folder) / CONFIG).read_bytes(), (Path(folder) / WEIGHTS).read_bytes()
    except OSError as error:
        raise ProviderError(f"can't read the adapter {folder} ({error}): fetch or train it again") from error


def _name(config: bytes, weights: bytes) -> str:
    digest = hashlib.sha256(config)
    digest.update(weights)
    return digest.hexdigest()[:16]


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    scale = TOLERANCE * max(1e-9, max(other) - min(other))
    return all(abs(x - y) <= scale for x, y in zip(one, other, strict=True))


def _linear(weight: Any) -> Any:
    """A layer with these weights, in full precision as PEFT has it; without the weights that its constructor would draw."""
    from torch import nn

    layer = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(layer)
    layer.out_features, layer.in_features = weight.shape
    layer.register_parameter("weight", nn.Parameter(weight.float() if weight.dtype.itemsize < 4 else weight, requires_grad=False))
    layer.register_parameter("bias", None)
    layer.training = False
    return layer


def _has_room(place: Any, a: Any, b: Any) -> bool:
    return bool(a.in_features == place.in_features and b.out_features == place.out_features)


def why_not_mixed(folder: str, base: Any) -> str | None:
    """Why this adapter can't answer beside others on that base; None when it can."""
    from safetensors import SafetensorError, safe_open

    try:
        config = json.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))
        if config.get("peft_type") != "LORA":
            return f"{config.get('peft_type')} is not LoRA"
        if more := [name for name in (*EXTRAS, *VARIANTS) if config.get(name)]:
            return f"it has {more[0]}"
        if config.get("bias", "none") != "none":
            return "it has biases"
        with safe_open(Path(folder) / WEIGHTS, framework="pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  the file is no mapping
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        return f"its files can't be read: {error}"
    size = lru_cache(maxsize=1)(partial(_size, base))  # A and B of a layer stand side by side
    return next((f"{key} fits no layer of the base" for key, shape in shapes.items() if not _fits(size, key, shape)), None)


def _fits(size: Callable[[str], tuple[int, int] | None], key: str, shape: list[int]) -> bool:
    """True for A or B of a linear layer that is there, in its size."""
    path, _, which = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
    inputs, outputs = size(path) or (0, 0)
    return len(shape) == 2 and {"lora_A": shape[-1] == inputs, "lora_B": shape[0] == outputs}.get(which, False)


def _size(base: Any, path: str) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer, None where there is no such layer."""
    from torch import nn

    try:
        layer = base.get_submodule(path)
    except AttributeError:
        return None
    layer = getattr(layer, "base_layer", layer)
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return (layer.nx, layer.nf) if type(layer).__name__ == "Conv1D" else None


def _merged_tensors(model: Any, adapter: str) -> Iterator[tuple[str, Any]]:
    """The tensors that the model would have with the adapter merged in, under the names that it would give them."""
    for key, tensor in model.state_dict().items():
        if ".lora_" in key:
            continue
        path, inside, _ = key.partition(".base_layer.weight")
        if inside:
            layer = model.get_submodule(path)
            if adapter in layer.lora_A:
                tensor = tensor.detach().clone()
                tensor += layer.get_delta_weight(adapter)  # in the precision in which PEFT merges
        yield key.replace(".base_layer.", "."), tensor
