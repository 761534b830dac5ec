"""Makes checkpoints and onnxruntime-genai's graphs of them, with what transformers computes. Knows nothing of Roost.

`make test-export` runs it in an environment of its own: it leaves the checkpoints and graphs there for the tests of
exports, and compares the references with those in the repository. With --write it writes these anew, and the graphs
beside them: one that optimum exports, and what onnxruntime-genai's builder makes in two precisions.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
)

from tests.models.checkpoint import write_tokenizer
from tests.runtime.reference.make_checkpoint_logits import compare, reference
from tests.runtime.reference.tiny_checkpoints import prompts
from tests.runtime.reference.tiny_foreign import (
    COMMITTED,
    DECODERS,
    ENCODERS,
    EXPORTED,
    FOLDER,
    GENAI,
    LOGITS,
    TinyForeign,
    common,
    weights,
)

_CLASSES: dict[str, Any] = {
    "text-generation": AutoModelForCausalLM,
    "feature-extraction": AutoModel,
    "text-classification": AutoModelForSequenceClassification,
}
_BUILT = {"genai_fp32": ["fp32"], "genai_int4": ["int4", "prune_lm_head=true", "block_size=32", "accuracy_level=4"]}


def main() -> None:
    """Make everything; compare the references, or write them."""
    torch.set_num_threads(1)
    shutil.rmtree(EXPORTED, ignore_errors=True)
    found: dict[str, Any] = {}
    for name, tiny in {**DECODERS, **ENCODERS}.items():
        folder = EXPORTED / name
        model = _write_checkpoint(folder, tiny)
        computed = reference(name, str(folder)) if name in DECODERS else _encoded(model)
        found |= {f"{name}.{key}": value for key, value in computed.items()}
    for name, (precision, *options) in _BUILT.items():
        _build(EXPORTED / GENAI, EXPORTED / name, precision, options)
    np.savez_compressed(EXPORTED / LOGITS.name, **found)
    committed = {key: value for key, value in found.items() if key.partition(".")[0] in COMMITTED}
    if "--write" in sys.argv:
        FOLDER.mkdir(exist_ok=True)
        np.savez_compressed(LOGITS, **committed)
        _export(EXPORTED / "gpt2", EXPORTED / "gpt2_exported")
        for name, made in {"gpt2": "gpt2_exported", **{name: name for name in _BUILT}}.items():
            with tarfile.open(FOLDER / f"{name}.tar.xz", "w:xz", preset=9) as archive:
                archive.add(EXPORTED / made, name, filter=_anonymous)
    compare(committed, LOGITS)


def _write_checkpoint(folder: Path, tiny: TinyForeign) -> Any:
    config = AutoConfig.for_model(tiny.model_type, **common(tiny))
    model = _CLASSES[tiny.task].from_config(config, attn_implementation="eager").float().eval()
    shapes = ((name, tuple(values.shape)) for name, values in model.named_parameters())
    values = {name: torch.from_numpy(array.copy()) for name, array in weights(shapes, tiny.seed)}
    model.load_state_dict(values, strict=False)
    model.tie_weights()
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def _encoded(model: Any) -> dict[str, Any]:
    """The encoder's output for the longest prompt."""
    ids = torch.tensor([prompts()[-1]])
    with torch.no_grad():
        outputs = model(ids, attention_mask=torch.ones_like(ids))
    return {"logits": (outputs.logits if "logits" in outputs else outputs.last_hidden_state)[0].numpy()}


def _build(checkpoint: Path, output: Path, precision: str, options: list[str]) -> None:
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", checkpoint, "-o", output]
    command += ["-p", precision, "-e", "cpu", "-c", output.with_name("cache")]
    if options:
        command += ["--extra_options", *options]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _export(checkpoint: Path, output: Path) -> None:
    from optimum.exporters.onnx import main_export

    main_export(str(checkpoint), output=output, task="text-generation-with-past", do_validation=False)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
