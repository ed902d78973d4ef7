"""The model that is trained: a base that stands still, whole or in few bits, and a LoRA adapter on it; and how the adapter is written down.

LoRA: Hu et al., 2021. QLoRA (the base in 4 bits): Dettmers et al., 2023.
"""

from __future__ import annotations

import inspect
import os
import shutil
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from core.errors import TrainingError
from core.providers.loading import Quantization, base_of, is_adapter, load_base, load_tokenizer
from finetune.options import TrainConfig

WEIGHTS, SETTINGS, MANIFEST = "adapter_model.safetensors", "adapter_config.json", "manifest.json"
STAGED = ".adapter"


def checked(kind: type[Any], **wanted: Any) -> Any:
    """An instance of a library's configuration class. A keyword that the installed version does not know is told at once."""
    known = {f.name for f in fields(kind)} if is_dataclass(kind) else set(inspect.signature(kind).parameters)
    unknown = sorted(set(wanted) - known)
    if unknown:
        raise TrainingError(
            f"the installed {kind.__module__.split('.')[0]} has no option {unknown[0]}: install the versions in constraints.txt"
        )
    return kind(**wanted)


def peft_model(config: TrainConfig) -> tuple[Any, Any]:
    """(model with a trainable LoRA adapter named "default", tokenizer). An adapter directory is trained further, a model from scratch."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(config.seed)
    base = base_of(config.model)
    few_bits: Quantization = "4bit" if config.load_in_4bit else "8bit" if config.load_in_8bit else "none"
    model, tokenizer = load_base(base, placed(config), weights_dtype(config), few_bits), load_tokenizer(config.model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.use_cache = False
    if is_adapter(config.model):
        return PeftModel.from_pretrained(model, config.model, is_trainable=True), tokenizer
    targets = config.target_modules
    lora = checked(
        LoraConfig,
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    model.name_or_path = str(Path(base).resolve()) if Path(base).exists() else base
    try:
        return get_peft_model(model, lora), tokenizer
    except ValueError as error:
        raise TrainingError(f"no adapter can be put on {targets!r}: choose among {', '.join(linear_names(model))}") from error


def linear_names(model: Any) -> list[str]:
    """The last names of its linear layers, the output head left out."""
    import torch

    head = model.get_output_embeddings()
    return sorted({name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head})


def placed(config: TrainConfig) -> str:
    """Where this process loads the base: of several each has a GPU of its own, and a model that is to be shared out waits in RAM."""
    import torch

    if not several_processes() or config.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return config.device
    from accelerate import PartialState

    return "cpu" if shares_parameters() else str(PartialState().device)


def weights_dtype(config: TrainConfig) -> str:
    """The name of the type that the base is loaded in."""
    import torch

    on_gpu = config.device not in ("cpu", "mps") and torch.cuda.is_available()
    return "float16" if config.dtype == "auto" and on_gpu and not torch.cuda.is_bf16_supported() else config.dtype


def save_adapter(model: Any, tokenizer: Any, folder: Path, state_dict: dict[str, Any] | None = None) -> None:
    """Adapter weights as safetensors, the tokenizer beside them, and nothing that a trainer left over.

    Written aside first. Its configuration, without which a folder is no adapter, comes last, so that a kill leaves a whole one or none.
    Of several processes the first writes and all wait for it; `state_dict` is what a model that is shared out was gathered into.
    """
    if is_first_process():
        if "ref" in getattr(model, "peft_config", {}):
            model.delete_adapter("ref")
            model.set_adapter("default")
        staged = folder / STAGED
        shutil.rmtree(staged, ignore_errors=True)
        model.save_pretrained(str(staged), save_embedding_layers=False, state_dict=state_dict)
        tokenizer.save_pretrained(str(staged))
        for leftover in (SETTINGS, MANIFEST, "training_args.bin", "README.md"):
            (folder / leftover).unlink(missing_ok=True)
        for path in sorted(staged.iterdir(), key=lambda path: path.name == SETTINGS):
            if path.name != "README.md":
                os.replace(path, folder / path.name)
        shutil.rmtree(staged)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    wait_for_all()


def several_processes() -> bool:
    """True under `accelerate launch` or `torchrun` with more than one process, once they know of each other."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def shares_parameters() -> bool:
    """True when accelerate was asked for FSDP or DeepSpeed. It says so in the environment of the processes that it launches."""
    return any(os.environ.get(name, "").lower() in ("true", "1") for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))


def is_first_process() -> bool:
    """True in the one process that writes files."""
    from torch import distributed

    return not several_processes() or distributed.get_rank() == 0


def wait_for_all() -> None:
    """Until every process is here."""
    if several_processes():
        from accelerate import PartialState

        PartialState().wait_for_everyone()
