"""Tiny encoders as checkpoints: random weights from a seed, written by numpy alone, the same on both sides."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

HIDDEN, HEADS, FFN, LAYERS, CONTEXT, TYPES = 64, 4, 96, 2, 40, 2
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{number}" for number in range(60))]
ROWS = ((2, 7, 9, 3), (2, 30, 31, 32, 33, 34, 35, 36, 37, 3), (2, 3), (2, *range(4, 40), 3))
"""Texts' tokens, of several lengths, none of them padding."""
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu"},
    "bert_tanh": {"architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_act": "gelu_new"},
    "xlm_roberta": {"architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "hidden_act": "gelu"},
    "relu": {"architectures": ["BertModel"], "model_type": "bert", "hidden_act": "relu"},
}
PREFIXES = {"bert_tanh": "bert."}


def config(name: str) -> dict[str, Any]:
    """The whole configuration."""
    roberta = name == "xlm_roberta"
    return {
        "vocab_size": len(WORDS),
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": FFN,
        "max_position_embeddings": CONTEXT + 2 * roberta,
        "type_vocab_size": 1 if roberta else TYPES,
        "pad_token_id": int(roberta),
        "layer_norm_eps": 1e-5 if roberta else 1e-12,
        **ENCODERS[name],
    }


def tensors(name: str) -> dict[str, NDArray[np.float32]]:
    """Every tensor, drawn in a fixed order."""
    draw, stated = np.random.RandomState(len(name)), config(name)
    sizes = {"word": stated["vocab_size"], "position": stated["max_position_embeddings"]}
    sizes["token_type"] = stated["type_vocab_size"]
    found: dict[str, NDArray[np.float64]] = {
        f"embeddings.{kind}_embeddings.weight": draw.normal(0, 0.5, (size, HIDDEN)) for kind, size in sizes.items()
    }

    def norm(place: str) -> None:
        found[f"{place}.weight"], found[f"{place}.bias"] = draw.normal(1, 0.2, HIDDEN), draw.normal(0, 0.2, HIDDEN)

    norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        for place, rows, columns in (
            *((f"attention.self.{part}", HIDDEN, HIDDEN) for part in ("query", "key", "value")),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", FFN, HIDDEN),
            ("output.dense", HIDDEN, FFN),
        ):
            found[f"{at}.{place}.weight"] = draw.normal(0, 2 / columns**0.5, (rows, columns))
            found[f"{at}.{place}.bias"] = draw.normal(0, 0.2, rows)
        norm(f"{at}.attention.output.LayerNorm")
        norm(f"{at}.output.LayerNorm")
    return {PREFIXES.get(name, "") + key: values.astype(np.float32) for key, values in found.items()}


def write_encoder_checkpoint(folder: Path, name: str) -> str:
    """Write the checkpoint ``name`` into ``folder``; the sha256 of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(name)))
    save_file(tensors(name), folder / "model.safetensors")
    tokenizer = Tokenizer(WordPiece({word: id_ for id_, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Lowercase(), Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.enable_padding(length=16)
    tokenizer.enable_truncation(8)
    tokenizer.save(str(folder / "tokenizer.json"))
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
