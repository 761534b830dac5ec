"""What does rounding cost? Perplexity and divergence from float32 on perplexity.txt, beside llama.cpp's formats.

Run by with_peers.sh (``make perplexity``). The stand-in's weights come in 4-bit blocks, which any 4-bit format would
reproduce; so they are moved off that grid first, by changes that leave the function as it is: each norm's gain is
divided by random factors that the next matrices' columns take up, and so are values by the output projection, the
up projection by the down projection. Every side rounds that same float32 file. Its text is the beginning of "Alice's
Adventures in Wonderland" (Lewis Carroll, 1865, public domain) and prose written for this repository.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from runtime.artifacts import ArtifactStore
from runtime.decoder_graph import write_decoder
from runtime.device import usable_cores
from runtime.gguf_weights import GgufWeights
from runtime.kv_quantization import calibrate, calibration_text, quantise_cache
from runtime.linear_graph import EXACT, HALF, SERVED, Precision
from runtime.precision import PrecisionName
from runtime.quantization import Matrix
from runtime.quantized_weights import QuantizedWeights
from runtime.rounding import to_int4, to_nearest_int4
from runtime.stand_in import GGUF_NAME, find_stand_in

Floats = NDArray[np.float32]
Logits = list[Floats]  # for each window [WINDOW, vocab]
WINDOW, WINDOWS = 400, 3
SPREAD = 0.25  # of the factors' logarithms
FILE_TYPES = {"Q4_0": 2, "Q4_1": 3, "Q4_K_M": 15, "Q8_0": 7}  # llama.h's llama_ftype
COLUMNS = {  # a source of factors: what is divided by them (rows), and what takes them up (columns)
    "attn_norm": ("attn_q", "attn_k", "attn_v"),
    "ffn_norm": ("ffn_gate", "ffn_up"),
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    megabytes: float
    logits: Logits


def main() -> None:
    """Print the table."""
    store = ArtifactStore()
    artifact, given = find_stand_in(store), store.downloads / GGUF_NAME
    if artifact is None or not given.exists():
        raise SystemExit("the stand-in isn't here: type roost pull --stand-in")
    text = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
    tokens = np.array(artifact.tokenizer().encode_raw(text)[: WINDOW * WINDOWS]).reshape(WINDOWS, WINDOW)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = folder / "float32.gguf"
        move_off_the_grid(given, whole)
        exact: Row | None = None
        print(f"{'':34}{'MB':>7}{'perplexity':>12}{'divergence':>12}{'top-1':>8}")
        for row in rows(whole, folder, tokens):
            exact = exact or row
            print(described(row, exact, tokens), flush=True)


def rows(whole: Path, folder: Path, tokens: NDArray[np.int64]) -> Iterator[Row]:
    """Every line; the first is what the others are measured against."""
    yield ours("float32, exact", whole, folder, tokens, "fp32", EXACT)
    yield ours("roost fp16 (its graph, on the CPU)", whole, folder, tokens, "fp16", HALF)
    yield ours("roost int8", whole, folder, tokens, "int8", SERVED)
    yield ours("roost int8, int8 KV cache", whole, folder, tokens, "int8", SERVED, kv=True)
    yield ours("roost int4", whole, folder, tokens, "int4", SERVED)
    yield ours("roost int4, int8 KV cache", whole, folder, tokens, "int4", SERVED, kv=True)
    yield ours("(int4, searched, none in 8 bits)", whole, folder, tokens, to_int4, SERVED)
    yield ours("(int4, to nearest, none in 8 bits)", whole, folder, tokens, to_nearest_int4, SERVED)
    for name, kind in FILE_TYPES.items():
        yield theirs(f"llama.cpp {name}", whole, folder / f"{name}.gguf", tokens, kind)


def described(row: Row, exact: Row, tokens: NDArray[np.int64]) -> str:
    """Perplexity; the mean Kullback-Leibler divergence from float32, in thousandths; agreement on the likeliest."""
    losses, divergences, agreed = [], [], []
    for mine, right, window in zip(row.logits, exact.logits, tokens, strict=True):
        said, meant = log_softmax(mine[:-1]), log_softmax(right[:-1])
        losses.append(-said[np.arange(WINDOW - 1), window[1:]])
        divergences.append((np.exp(meant) * (meant - said)).sum(-1))
        agreed.append(said.argmax(-1) == meant.argmax(-1))
    perplexity, divergence = np.exp(np.mean(losses)), 1000 * np.mean(divergences)
    return f"{row.name:34}{row.megabytes:7.0f}{perplexity:12.3f}{divergence:12.2f}{np.mean(agreed):8.1%}"


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Natural logarithms of the probabilities, over the last axis."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


class Plain(QuantizedWeights):
    """Every layer's matrices by one rounding, without exceptions."""

    def __init__(self, source: GgufWeights, rounding: Callable[[Floats], Matrix]) -> None:
        super().__init__(source, "int8", lambda _count: None)
        self._rounding = rounding

    def linear(self, layer: int, part: str) -> Matrix:
        return self._rounding(self._source.linear(layer, part).dense())


def ours(
    name: str,
    whole: Path,
    folder: Path,
    tokens: NDArray[np.int64],
    rounding: PrecisionName | Callable[[Floats], Matrix],
    precision: Precision,
    *,
    kv: bool = False,
) -> Row:
    """A graph of roost's over the whole text, a window at a time."""
    source, path = GgufWeights(whole), folder / "decoder.onnx"
    weights = Plain(source, rounding) if callable(rounding) else QuantizedWeights(source, rounding, lambda _count: None)
    write_decoder(path, weights, precision)
    if kv:
        artifact = find_stand_in(ArtifactStore())
        assert artifact is not None
        calibration = artifact.tokenizer().encode_raw(calibration_text())
        quantise_cache(path, calibrate(path, calibration))
    return Row(name, path.with_name("decoder.onnx.data").stat().st_size / 1e6, list(run_graph(path, tokens)))


def run_graph(path: Path, tokens: NDArray[np.int64]) -> Iterator[Floats]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int8)": np.int8}
    for window in tokens:
        feeds: dict[str, Any] = {
            entry.name: np.zeros((1, entry.shape[1], WINDOW, entry.shape[3]), types[entry.type])
            for entry in session.get_inputs()
            if entry.name.startswith("past.")
        }
        feeds |= {"input_ids": window[None], "logit_idx": np.arange(WINDOW)}
        feeds |= {"seqlens_k": np.array([WINDOW - 1], np.int32), "total_seq": np.array(WINDOW, np.int32)}
        yield session.run(["logits"], feeds)[0]


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: Any) -> None:
    """llama.cpp's log, left out."""


def theirs(name: str, whole: Path, path: Path, tokens: NDArray[np.int64], kind: int) -> Row:
    """llama.cpp's own rounding of ``whole``, run by llama.cpp."""
    llama_cpp.llama_log_set(_silent, None)
    wanted = llama_cpp.llama_model_quantize_default_params()
    wanted.ftype, wanted.nthread = kind, usable_cores()
    if llama_cpp.llama_model_quantize(str(whole).encode(), str(path).encode(), wanted):
        raise RuntimeError(f"llama.cpp can't make {name}")
    return Row(name, path.stat().st_size / 1e6, list(run_llama_cpp(path, tokens)))


def run_llama_cpp(path: Path, tokens: NDArray[np.int64]) -> Iterator[Floats]:
    parameters = llama_cpp.llama_model_default_params()
    parameters.use_extra_bufts = False  # see agreement.py
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = WINDOW
    settings.n_threads = settings.n_threads_batch = usable_cores()
    context = llama_cpp.llama_init_from_model(model, settings)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    batch = llama_cpp.llama_batch_init(WINDOW, 0, 1)
    for window in tokens:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch.n_tokens = WINDOW
        for place, token in enumerate(window):
            batch.token[place], batch.pos[place], batch.logits[place] = int(token), place, 1
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        if failure := llama_cpp.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode returned {failure}")
        yield np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (WINDOW, vocab)).copy()
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


def move_off_the_grid(source: Path, target: Path) -> None:
    """Write ``target``: the same function as ``source`` in float32, with other weights."""
    reader = gguf.GGUFReader(source)
    tensors: dict[str, Floats] = {
        tensor.name: np.array(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32) for tensor in reader.tensors
    }
    rng = np.random.default_rng(0)
    heads, kv_heads = (
        int(reader.fields[f"llama.attention.{name}"].contents()) for name in ("head_count", "head_count_kv")
    )
    for layer in range(int(reader.fields["llama.block_count"].contents())):
        prefix = f"blk.{layer}."
        for norm, matrices in COLUMNS.items():
            gain = tensors[f"{prefix}{norm}.weight"]
            factors = np.exp(rng.normal(0, SPREAD, gain.shape)).astype(np.float32)
            gain /= factors
            for name in matrices:
                tensors[f"{prefix}{name}.weight"] *= factors
        shift_rows(tensors, f"{prefix}ffn_up", f"{prefix}ffn_down", 1, rng)
        shift_rows(tensors, f"{prefix}attn_v", f"{prefix}attn_output", heads // kv_heads, rng, kv_heads)
    write_gguf(target, reader, tensors)


def shift_rows(
    tensors: dict[str, Floats], rows: str, columns: str, shared: int, rng: np.random.Generator, heads: int = 1
) -> None:
    """Divide one matrix's rows and multiply the next one's columns; ``shared``: how many heads read a row's head."""
    above, below = tensors[f"{rows}.weight"], tensors[f"{columns}.weight"]
    factors = np.exp(rng.normal(0, SPREAD, len(above))).astype(np.float32)
    above /= factors[:, None]
    below *= np.repeat(factors.reshape(heads, 1, -1), shared, axis=1).ravel()


def write_gguf(path: Path, reader: gguf.GGUFReader, tensors: dict[str, Floats]) -> None:
    """``reader``'s metadata with ``tensors`` in float32."""
    writer = gguf.GGUFWriter(path, "llama")
    for name, entry in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            kind = entry.types[0]
            writer.add_key_value(
                name, entry.contents(), kind, entry.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            )
    for name, values in tensors.items():
        writer.add_tensor(name, values, raw_dtype=Type.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
