"""Makes checkpoint_logits.npz: what transformers computes with the tiny checkpoints. Knows nothing of Roost.

`make test-export` runs it in an environment of its own and compares with the file in the repository; with --write it
writes the file anew. Per checkpoint: the greedy continuation of every prompt, and the logits at every position of the
longest one with its continuation, in float32.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from tests.runtime.reference.tiny_checkpoints import CHECKPOINTS, GREEDY, prompts, write_checkpoint

COMMITTED = Path(__file__).with_name("checkpoint_logits.npz")
LEAST_LEAD = 1e-3  # of a greedy token over the next best: ten times the tests' tolerance
TOLERANCE = 2e-5


def main() -> None:
    """Compute everything; compare it, or write it."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name in CHECKPOINTS:
        with tempfile.TemporaryDirectory() as folder:
            digest = write_checkpoint(Path(folder), name)
            found |= {f"{name}.{key}": value for key, value in reference(name, folder).items()}
            found[f"{name}.sha256"] = np.array(digest)
    if "--write" in sys.argv:
        np.savez_compressed(COMMITTED, **found)
    compare(found, COMMITTED)


def reference(name: str, folder: str) -> dict[str, Any]:
    """The greedy rows of ``folder``'s checkpoint, and the logits along the longest."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    rows, lead = [], np.inf
    for prompt in prompts():
        row = list(prompt)
        for _ in range(GREEDY):
            last = _logits(model, row)[-1]
            second, best = np.sort(last)[-2:]
            lead = min(lead, best - second)
            row.append(int(last.argmax()))
        assert row == _generated(model, prompt), f"{name}: generate() says otherwise"
        rows.append(row)
    logits = _logits(model, rows[-1])
    kinds = [len(set(row[-GREEDY:])) for row in rows]
    print(f"{name}: standard deviation {logits.std():.2f}, least lead {lead:.4f}, kinds of tokens {kinds}")
    assert lead > LEAST_LEAD, f"{name}: take another seed"
    assert max(kinds) > 2, f"{name}: it says one thing for ever"
    return {"logits": logits} | {f"row{index}": np.array(row) for index, row in enumerate(rows)}


def _logits(model: Any, row: list[int]) -> Any:
    ids = torch.tensor([row])
    with torch.no_grad():
        # Without a mask transformers infers one from the padding token.
        return model(ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].numpy()


def _generated(model: Any, prompt: list[int]) -> list[int]:
    """The same by transformers' own loop and cache."""
    ids = torch.tensor([prompt])
    options = {"do_sample": False, "max_new_tokens": GREEDY, "pad_token_id": 0, "eos_token_id": None}
    row: list[int] = model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0].tolist()
    return row


def compare(found: dict[str, Any], committed: Path) -> None:
    """Raise where ``found`` isn't what the repository has."""
    with np.load(committed) as there:
        assert sorted(found) == sorted(there.files), "other checkpoints than those in the repository"
        for key, value in found.items():
            if key.endswith("logits"):
                np.testing.assert_allclose(value, there[key], rtol=0, atol=TOLERANCE, err_msg=key)
            else:
                assert np.array_equal(value, there[key]), f"{key} differs"
    print(f"what was computed agrees with {committed.name}")


if __name__ == "__main__":
    main()
