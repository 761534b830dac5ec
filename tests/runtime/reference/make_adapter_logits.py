"""Makes adapter_logits.npz: what PEFT's merged models compute. Knows nothing of Roost.

`make test-export` runs it in an environment of its own and compares with the file in the repository; with --write it
writes the file anew. Per checkpoint and adapter: a greedy continuation of one prompt, and the logits at its every
position, in float32. For SmolLM2 (with the path of its GGUF file) the greatest logits alone: its vocabulary is large.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from tests.runtime.reference.smollm2_adapter import GREATEST, PROMPT, WORDS, write_smollm2_adapter
from tests.runtime.reference.tiny_adapters import ADAPTED, KINDS, write_tiny_adapter
from tests.runtime.reference.tiny_checkpoints import prompts, write_checkpoint

COMMITTED = Path(__file__).with_name("adapter_logits.npz")
GREEDY = 24
LEAST_LEAD = 1e-3
TOLERANCE = 2e-5


def main(*options: str) -> None:
    """Compute everything; compare it, or write it."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name in ADAPTED:
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder), name)
            for kind in KINDS:
                adapter = Path(folder) / kind
                found[f"{name}.{kind}.sha256"] = np.array(write_tiny_adapter(adapter, name, kind))
                model = _merged(_base(folder), adapter)
                row, logits = _continued(model, prompts()[-1], GREEDY)
                found |= {f"{name}.{kind}.row": row, f"{name}.{kind}.logits": logits}
    for gguf in (option for option in options if option.endswith(".gguf")):
        found |= _smollm2(Path(gguf))
    if "--write" in options:
        np.savez_compressed(COMMITTED, **found)
    _compare(found)


def _base(folder: str, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", **options
    ).eval()


def _merged(model: Any, adapter: Path) -> Any:
    """The model with the adapter merged into its weights, after a look at whether PEFT read all of its files."""
    adapted = PeftModel.from_pretrained(model, adapter)
    with tempfile.TemporaryDirectory() as again:
        adapted.save_pretrained(again)
        saved = load_file(Path(again) / "adapter_model.safetensors")
    given = load_file(adapter / "adapter_model.safetensors")
    assert saved.keys() == given.keys(), "PEFT has other tensors"
    for name, values in given.items():
        np.testing.assert_array_equal(saved[name].astype(np.float32), values.astype(np.float32))
    return adapted.merge_and_unload()


def _continued(model: Any, prompt: list[int], count: int) -> tuple[Any, Any]:
    """``prompt`` with ``count`` greedy tokens, and the logits after each token."""
    row, lead = list(prompt), np.inf
    for _ in range(count):
        last = _logits(model, row)[-1]
        second, best = np.sort(last)[-2:]
        lead = min(lead, best - second)
        row.append(int(last.argmax()))
    print(f"least lead {lead:.4f}, kinds of tokens {len(set(row[len(prompt) :]))}")
    assert lead > LEAST_LEAD, "take another seed"
    return np.array(row), _logits(model, row)


def _logits(model: Any, row: list[int]) -> Any:
    ids = torch.tensor([row])
    with torch.no_grad():
        return model(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].numpy()


def _smollm2(gguf: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        digest = write_smollm2_adapter(Path(folder))
        model = _base(str(gguf.parent), gguf_file=gguf.name)
        plain, _ = _continued(model, PROMPT, WORDS)
        row, logits = _continued(_merged(model, Path(folder)), PROMPT, WORDS)
    assert not np.array_equal(plain, row), "the adapter changes nothing"
    ids = np.argsort(-logits, axis=-1)[:, :GREATEST]
    values = np.take_along_axis(logits, ids, axis=-1)
    stated = {"sha256": np.array(digest), "row": row, "plain": plain, "ids": ids.astype(np.uint16), "values": values}
    return {f"smollm2.{name}": value for name, value in stated.items()}


def _compare(found: dict[str, Any]) -> None:
    with np.load(COMMITTED) as committed:
        unseen = set(committed.files) - found.keys()
        assert all(name.startswith("smollm2.") for name in unseen), f"{unseen} weren't computed"
        for key, value in found.items():
            if value.dtype == np.float32:
                np.testing.assert_allclose(value, committed[key], rtol=0, atol=TOLERANCE, err_msg=key)
            else:
                assert np.array_equal(value, committed[key]), f"{key} differs"
    print(f"{len(found)} values agree with {COMMITTED.name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
