"""The adapters that are loaded on one base, and answer rows of the same batch (PEFT's mixed batches).

Only plain LoRA can be mixed: weights A and B of layers that the base has, and nothing else. What can't is merged into a copy of the base.
Call everything but `read` on the thread that owns the engine.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ProviderError
from core.providers.engine import TOLERANCE, Engine
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
        digest = hashlib.sha256()
        try:
            for name in (CONFIG, WEIGHTS):
                digest.update((Path(folder) / name).read_bytes())
        except OSError as error:
            raise ProviderError(f"can't read the adapter {folder} ({error}): fetch or train it again") from error
        return cls(folder, digest.hexdigest()[:16])


class Adapters:
    """At most `limit` at once, the least recently used leave; one that rows are being written with stays."""

    def __init__(self, engine: Engine, limit: int) -> None:
        self.limit = limit
        self._engine = engine
        self._few_bits = in_few_bits(engine.model)
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
        idle = [name for name in self._loaded if not self._engine.serves(name)]
        leaving = len(self._loaded) + 1 - self.limit
        if leaving > len(idle):
            return False
        if Adapter.read(adapter.folder).name != adapter.name:
            raise ProviderError(f"the adapter {adapter.folder} has changed on disk since it was connected: connect it again")
        self._load(adapter)
        for name in idle[: max(leaving, 0)]:
            self._delete(name)
        return True

    def fingerprint(self, adapter: Adapter, base: str) -> str:
        """That of the base with the adapter merged in; where weights are quantised and are not merged, of both names."""
        if self._few_bits:
            return hashlib.sha256(f"{base} {adapter.name}".encode()).hexdigest()[:16]
        return fingerprint_of(_merged_tensors(self._engine.model.get_base_model(), adapter.name))

    def _load(self, adapter: Adapter) -> None:
        from peft import PeftModel

        model = self._engine.model
        before = self._engine.probe(PROOF)
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
        if not self._proven(adapter.name, before):
            self._delete(adapter.name)
            raise ProviderError(f"the adapter {adapter.folder} answers otherwise beside others than alone")

    def _proven(self, name: str, base: list[float]) -> bool:
        """In a mixed batch the adapter must answer as when it is the only one, and the base as if there were none."""
        import torch

        engine, model = self._engine, self._engine.model
        model.set_adapter(name)
        with torch.inference_mode():
            alone = model(torch.tensor([PROOF], device=engine.device), use_cache=False).logits[0, -1, :64].float().tolist()
        mixed, plain = engine.probe(PROOF, name), engine.probe(PROOF)
        scale = TOLERANCE * max(1e-9, max(alone) - min(alone))
        return all(abs(x - y) <= scale for x, y in [*zip(alone, mixed, strict=True), *zip(base, plain, strict=True)])

    def _delete(self, name: str) -> None:
        del self._loaded[name]
        if self._loaded:
            self._engine.model.set_adapter(next(reversed(self._loaded)))  # the active one can't leave without a warning
        self._engine.model.delete_adapter(name)
        self._engine.prefixes.forget(name)


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
    return next((f"{key} fits no layer of the base" for key, shape in shapes.items() if not _fits(base, key, shape)), None)


def _fits(base: Any, key: str, shape: list[int]) -> bool:
    """True for A or B of a linear layer that is there, in its size."""
    from torch import nn

    path, _, which = key.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
    try:
        layer = base.get_submodule(path)
    except AttributeError:
        return False
    layer = getattr(layer, "base_layer", layer)
    if isinstance(layer, nn.Linear):
        inputs, outputs = layer.in_features, layer.out_features
    elif type(layer).__name__ == "Conv1D":
        inputs, outputs = layer.nx, layer.nf
    else:
        return False
    return len(shape) == 2 and {"lora_A": shape[-1] == inputs, "lora_B": shape[0] == outputs}.get(which, False)


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
