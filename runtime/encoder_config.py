"""Reads what a checkpoint's folder says of an encoder: its shape, and how sentence-transformers makes a vector of it.

Sources: transformers' ``configuration_bert.py`` and ``configuration_xlm_roberta.py`` (4.57); sentence-transformers'
``modules.json``, whose modules are a transformer, a pooling and, for most, a normalisation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.config import EncoderShape, Pooling
from runtime.errors import ArtifactError
from runtime.json_file import json_object
from runtime.shape import MOST, MOST_LAYERS, WIDEST_HEAD, within

CONFIG, MODULES, SENTENCES = "config.json", "modules.json", "sentence_bert_config.json"
_POOLINGS: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_ACTIVATIONS: dict[str, Literal["gelu", "gelu_tanh", "relu"]] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_FAMILIES = {"Bert": "bert", "XLMRoberta": "roberta", "Roberta": "roberta", "Camembert": "roberta"}
"""Families by the name of their architectures, and the prefix that tensors may have."""


@dataclass(frozen=True, slots=True)
class Sentences:
    """How a vector is made of a text: by which pooling, whether it is brought to length 1, and of how many tokens.

    ``longest`` is ``None`` where nobody says.
    """

    pooling: Pooling = "mean"
    normalised: bool = False
    longest: int | None = None


def is_encoder(folder: Path) -> bool:
    """Whether the checkpoint in ``folder`` is an encoder of a kind that is built here."""
    return _family(json_object(folder / CONFIG)) is not None


def read_shape(folder: Path) -> tuple[EncoderShape, str]:
    """The shape of the encoder in ``folder``, and the prefix that its tensors' names may have."""
    stated = json_object(folder / CONFIG)
    if (family := _family(stated)) is None:
        name = (stated.get("architectures") or [stated.get("model_type", "unnamed")])[0]
        served = ", ".join(_FAMILIES)
        raise ArtifactError(
            f"the architecture {name} isn't served for embeddings; {served} are, and more by --exporter optimum"
        )
    kind, relative = stated.get("hidden_act", "gelu"), stated.get("position_embedding_type", "absolute")
    if kind not in _ACTIVATIONS or relative != "absolute" or stated.get("is_decoder"):
        raise ArtifactError(f"{CONFIG} asks for {kind} and {relative} positions, which encoders here don't have")
    # RoBERTa's positions begin after the one that its padding has.
    first = int(stated.get("pad_token_id", 1)) + 1 if family == "roberta" else 0
    shape = EncoderShape(
        layers=stated["num_hidden_layers"],
        hidden=stated["hidden_size"],
        heads=stated["num_attention_heads"],
        ffn=stated["intermediate_size"],
        vocab=stated["vocab_size"],
        context=stated["max_position_embeddings"] - first,
        norm_epsilon=float(stated.get("layer_norm_eps", 1e-12)),
        types=stated.get("type_vocab_size", 2),
        first_position=first,
        activation=_ACTIVATIONS[kind],
    )
    return _checked(shape), family


def read_sentences(folder: Path) -> Sentences:
    """What sentence-transformers' files in ``folder`` say; without them the mean of all tokens, as it is."""
    if not (folder / MODULES).exists():
        return Sentences()
    try:
        modules: list[dict[str, Any]] = json.loads((folder / MODULES).read_bytes())
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        places = {kind: str(module["path"]) for kind, module in zip(kinds, modules, strict=True)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{MODULES} is not readable: {error!r}") from error
    if strangers := sorted({*kinds} - {"Transformer", "Pooling", "Normalize"}):
        raise ArtifactError(f"{MODULES} has a module that isn't served: {strangers[0]}")
    longest = json_object(folder / places.get("Transformer", "") / SENTENCES).get("max_seq_length")
    pooling = _pooling(json_object(folder / places["Pooling"] / CONFIG)) if "Pooling" in places else "mean"
    return Sentences(pooling, "Normalize" in kinds, longest if isinstance(longest, int) and longest > 0 else None)


def _pooling(stated: Mapping[str, Any]) -> Pooling:
    """The one way in which vectors are pooled; several side by side would make longer ones."""
    asked = [name for name, value in stated.items() if name.startswith("pooling_mode_") and value is True]
    if len(asked) != 1 or asked[0] not in _POOLINGS:
        raise ArtifactError(f"poolings that are served are the mean and the first token, not {', '.join(asked)}")
    return _POOLINGS[asked[0]]


def _family(stated: Mapping[str, Any]) -> str | None:
    names = stated.get("architectures") or []
    name = str(names[0]) if isinstance(names, list) and names else ""
    plain = name.removesuffix("Model").removesuffix("ForMaskedLM").removesuffix("ForPreTraining")
    return _FAMILIES.get(plain)


def _checked(shape: EncoderShape) -> EncoderShape:
    most = {"layers": MOST_LAYERS}
    for name in ("layers", "hidden", "heads", "ffn", "vocab", "context", "types"):
        within(getattr(shape, name), name, CONFIG, most.get(name, MOST))
    if shape.hidden % shape.heads or shape.hidden // shape.heads > WIDEST_HEAD:
        raise ArtifactError(f"{CONFIG} states {shape.heads} heads for {shape.hidden} values, which can't be")
    return shape
