"""How much memory does it take to build a 7 B model? ``python -m tests.benchmarks.full_size FOLDER [int4|int4+kv …]``

Writes a checkpoint of Starling-LM-7B's shape into FOLDER (7.24 thousand million random bfloat16 weights, 14.5 GB),
lets ``roost pull`` build an artifact of it in each precision, and prints the peak of anonymous memory (RssAnon in
/proc/PID/status: what can't be dropped, unlike mapped files). ``+kv`` is for an int8 KV cache. Then an int4 artifact
answers ``roost run``. Linux only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

MODEL = "@hf/nexusflow/starling-lm-7b-beta"
HIDDEN, FFN, LAYERS, VOCAB, KV = 4096, 14_336, 32, 32_002, 1024
CONFIG = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCAB,
}
LAYERS_PER_SHARD = 8
Shapes = dict[str, tuple[int, ...]]


def main() -> None:
    """Build and measure."""
    folder, builds = Path(sys.argv[1]), sys.argv[2:] or ["int4", "fp16", "int4+kv"]
    checkpoint = folder / "random-starling-7b"
    if not (checkpoint / "config.json").exists():
        write_checkpoint(checkpoint)
    os.environ["ROOST_CACHE"] = str(folder / "cache")
    for build in builds:
        precision, _, cache = build.partition("+")
        pull = [
            "pull",
            MODEL,
            "--from",
            str(checkpoint),
            "--precision",
            precision,
            *(["--kv", "int8"] if cache else []),
        ]
        seconds, peak, _ = measured(pull)
        size = sum(path.stat().st_size for path in (folder / "cache" / "artifacts").rglob("*") if path.is_file())
        print(f"{build}: built in {seconds:.0f} s, {size / 1e9:.2f} GB, peak RssAnon {peak / 2**30:.2f} GiB")
        if precision == "int4":
            run = ["run", MODEL, "Hello", "--no-stand-in", "--json", "-o", "max_tokens=8", "-o", "temperature=0"]
            seconds, peak, said = measured(run)
            print(f"it answered in {seconds:.0f} s, peak RssAnon {peak / 2**30:.2f} GiB: {json.loads(said)['usage']}")
        shutil.rmtree(folder / "cache")


def measured(arguments: list[str]) -> tuple[float, int, str]:
    """Run ``roost``: seconds, the largest RssAnon seen in bytes, and what it printed."""
    started, peak = time.monotonic(), 0
    roost = subprocess.Popen([sys.executable, "-m", "wrangler_compat", *arguments], stdout=subprocess.PIPE, text=True)
    while roost.poll() is None:
        peak = max(peak, rss_anon(roost.pid))
        time.sleep(0.02)
    assert roost.stdout is not None
    if roost.returncode:
        raise SystemExit(f"roost {arguments[0]} failed")
    return time.monotonic() - started, peak, roost.stdout.read()


def rss_anon(pid: int) -> int:
    """Bytes of anonymous memory that a process holds; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), 0)


def write_checkpoint(folder: Path) -> None:
    """Write the checkpoint's shards tensor by tensor, its index, its configuration and a tokenizer of bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    places: dict[str, str] = {}
    for number, shapes in enumerate(shards(), start=1):
        name = f"model-{number:05}-of-{LAYERS // LAYERS_PER_SHARD + 1:05}.safetensors"
        print(f"writing {name}", file=sys.stderr)
        write_shard(folder / name, shapes, rng)
        places |= dict.fromkeys(shapes, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({text: id_ for id_, text in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps(CONFIG))


def shards() -> Iterator[Shapes]:
    """The tensors of each shard."""
    yield {
        "model.embed_tokens.weight": (VOCAB, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCAB, HIDDEN),
    }
    for start in range(0, LAYERS, LAYERS_PER_SHARD):
        layers = range(start, start + LAYERS_PER_SHARD)
        yield {f"model.layers.{layer}.{name}": shape for layer in layers for name, shape in layer_tensors().items()}


def layer_tensors() -> Shapes:
    """The tensors of one layer."""
    return {
        "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        "self_attn.k_proj.weight": (KV, HIDDEN),
        "self_attn.v_proj.weight": (KV, HIDDEN),
        "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        "mlp.gate_proj.weight": (FFN, HIDDEN),
        "mlp.up_proj.weight": (FFN, HIDDEN),
        "mlp.down_proj.weight": (HIDDEN, FFN),
        "input_layernorm.weight": (HIDDEN,),
        "post_attention_layernorm.weight": (HIDDEN,),
    }


def write_shard(path: Path, shapes: Shapes, rng: np.random.Generator) -> None:
    """One safetensors file of random bfloat16 values, a row of pieces at a time."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            file.write(bfloat16(rng, shape))


def bfloat16(rng: np.random.Generator, shape: tuple[int, ...]) -> bytes:
    """Random values: gains near 1 for vectors, small weights for matrices."""
    values = rng.standard_normal(shape, np.float32) * np.float32(0.02)
    if len(shape) == 1:
        values += np.float32(1)
    return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()


if __name__ == "__main__":
    main()
