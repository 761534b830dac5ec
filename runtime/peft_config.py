"""``adapter_config.json`` as PEFT writes it: what matters of it here, and what of it can't be served.

Names and meanings: peft 0.21, ``peft.tuners.lora.config.LoraConfig``. A field that changes what an adapter computes and
isn't served is refused by name; one that only says how it was trained is passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.errors import AdapterError, FinetuneIncomplete

CONFIG = "adapter_config.json"
MAX_RANK = 32
"""The platform's limit (developers.cloudflare.com/workers-ai/features/fine-tunes/loras)."""
MAX_CONFIG_BYTES = 1 << 20
"""roost's own bound; PEFT's files have one or two kilobytes."""

_NOT_SERVED = {
    "use_dora": "DoRA",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "BD-LoRA",
    "arrow_config": "Arrow",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "alora_invocation_tokens": "activated LoRA",
    "lora_bias": "a bias of the low-rank products (lora_bias)",
    "modules_to_save": "whole modules of its own (modules_to_save)",
    "trainable_token_indices": "embeddings of its own (trainable_token_indices)",
    "target_parameters": "single parameters as targets (target_parameters)",
    "layer_replication": "replicated layers (layer_replication)",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
}
_INITIAL = ("gaussian", "eva", "orthogonal")  # the others change the base weights too
_Value = TypeVar("_Value")


class PeftConfig(BaseModel):
    """The ranks and scales of an adapter. Patterns are regular expressions on the end of a module's name."""

    model_config = ConfigDict(frozen=True, extra="allow")

    peft_type: str
    r: int = Field(8, ge=1)
    lora_alpha: float = Field(8, allow_inf_nan=False)
    use_rslora: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    bias: str = "none"
    init_lora_weights: bool | str = True
    base_model_name_or_path: str | None = None

    def rank(self, module: str) -> int:
        """The rank of a module's factors."""
        return _by_pattern(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """What a module's low-rank product is multiplied by."""
        alpha, rank = _by_pattern(self.alpha_pattern, module, self.lora_alpha), self.rank(module)
        return alpha / (rank**0.5 if self.use_rslora else rank)


def read_config(folder: Path) -> PeftConfig:
    """The configuration in ``folder``.

    Raises :class:`FinetuneIncomplete` where there is none, :class:`AdapterError` for what can't be served.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FinetuneIncomplete(f"{folder} has no {CONFIG}")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise AdapterError(f"{CONFIG} has more than {MAX_CONFIG_BYTES >> 20} MB")
    try:
        config = PeftConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AdapterError(f"{CONFIG} isn't what PEFT writes: {where + ': ' if where else ''}{first['msg']}") from error
    _refuse(config)
    return config


def _refuse(config: PeftConfig) -> None:
    if config.peft_type != "LORA":
        raise AdapterError(f"the adapter is of PEFT's type {config.peft_type}: LORA is served")
    for name, what in _NOT_SERVED.items():
        if (config.model_extra or {}).get(name):
            raise AdapterError(f"the adapter has {what}, which isn't served")
    if config.bias != "none":
        raise AdapterError(f'the adapter trains biases (bias: "{config.bias}"), which isn\'t served')
    if isinstance(config.init_lora_weights, str) and config.init_lora_weights not in _INITIAL:
        how = config.init_lora_weights
        raise AdapterError(
            f"the adapter changes the base weights too (init_lora_weights: {how}): convert it to plain LoRA with PEFT"
        )
    if not all(map(math.isfinite, config.alpha_pattern.values())):
        raise AdapterError(f"{CONFIG} has an alpha that is no number")
    ranks = [config.r, *config.rank_pattern.values()]
    if not all(1 <= rank <= MAX_RANK for rank in ranks):
        raise AdapterError(f"the adapter's rank is {max(ranks)}: 1 to {MAX_RANK} are served, as on the platform")


def _by_pattern(patterns: Mapping[str, _Value], module: str, otherwise: _Value) -> _Value:
    """As ``peft.utils.other.get_pattern_key`` chooses."""
    for pattern, value in patterns.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except re.error as error:
            raise AdapterError(f"{CONFIG} has a pattern that is none: {pattern!r} ({error})") from error
    return otherwise
