"""Finds a decoder that was made elsewhere in a folder, and what the files beside it say of it.

Folders as optimum writes them, as the hub has them (``onnx/model_q4.onnx``) and as onnxruntime-genai's builder writes
them. Knows no session: what is found here is tried out when the artifact is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime.checkpoint_config import SUPPORTED, CheckpointConfig
from runtime.errors import ArtifactError
from runtime.graph_choice import choose_graph
from runtime.graph_interface import GraphInterface, Sizes
from runtime.json_file import read_json
from runtime.onnx_file import OnnxFile

GENAI_CONFIG, CONFIG = "genai_config.json", "config.json"
SUBFOLDER = "onnx"
"""Where repositories of the hub keep their graphs."""
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length")
_UNSTATED_CONTEXT = 2048


def is_foreign(folder: Path) -> bool:
    """Whether ``folder`` holds ONNX graphs, and no checkpoint to build one from."""
    return bool(_sizes(folder)) and not any(folder.glob("*.safetensors"))


def find_graph(source: Path, precision: str | None) -> Path:
    """The decoder's file in the folder ``source``, or that file itself."""
    return source if source.is_file() else source / choose_graph(_sizes(source), precision, stated=_stated(source))


def _sizes(folder: Path) -> dict[str, int]:
    places = [path for place in (folder, folder / SUBFOLDER) for path in place.glob("*.onnx*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in places}


def _stated(folder: Path) -> str | None:
    """The file that onnxruntime-genai's configuration names."""
    name = _decoder_of(_json(folder / GENAI_CONFIG)).get("filename")
    return None if name is None else str(name)


@dataclass(frozen=True)
class ForeignDecoder:
    """A decoder's file, with what its folder, or the one above, says of it."""

    graph: Path

    @cached_property
    def file(self) -> OnnxFile:
        """The graph as read."""
        return OnnxFile(self.graph)

    def check(self) -> None:
        """Read whatever its configurations state, so that what is misstated is found before the work."""
        _ = self.interface, self.context, self.stop_tokens, self.missing_windows()

    @cached_property
    def interface(self) -> GraphInterface:
        """How the graph is fed."""
        return self.file.interface(self._sizes())

    @property
    def text_folder(self) -> Path:
        """Where its tokenizer lies."""
        for folder in self._folders():
            if (folder / "tokenizer.json").exists() or (folder / "tokenizer.model").exists():
                return folder
        raise ArtifactError(f"neither {self.graph.parent} nor the folder above holds a tokenizer.json")

    @property
    def stop_tokens(self) -> set[int]:
        """The end tokens that its configurations declare."""
        declared = [self._genai_model.get("eos_token_id"), self._config.get("eos_token_id")]
        return {id_ for ids in declared for id_ in (ids if isinstance(ids, list) else [ids]) if isinstance(id_, int)}

    @property
    def context(self) -> int:
        """The longest sequence in tokens: the least of what is said anywhere."""
        stated = [next((self._config[key] for key in _CONTEXT if self._config.get(key)), None)]
        stated += [self._genai_model.get("context_length"), self.file.positions()]
        return min((int(size) for size in stated if isinstance(size, int) and size > 0), default=_UNSTATED_CONTEXT)

    def missing_windows(self) -> dict[str, int]:
        """Sliding windows that the model has and its graph dropped, by name of the layer's past keys.

        onnxruntime-genai 0.18 writes such graphs. Raises :class:`ArtifactError` where the two say different windows.
        """
        drawn = self.file.windows()
        if not drawn or not self._config:
            return {}
        missing = {}
        for layer, wanted in zip(range(self.interface.layers), self._windows(self.interface.layers), strict=False):
            past = self.interface.cache[2 * layer].past
            has = drawn.get(past)
            if wanted == has or wanted is None or min(wanted, has or wanted) >= self.context:
                continue
            if has is not None:
                raise ArtifactError(f"layer {layer} of the graph has a window of {has} tokens, {CONFIG} says {wanted}")
            missing[past] = wanted
        return missing

    def _windows(self, layers: int) -> Iterator[int | None]:
        """The sliding window of each layer as ``config.json`` has it."""
        name = (self._config.get("architectures") or [""])[0]
        if name in SUPPORTED:
            # That a checkpoint was quantised says nothing of a graph's windows.
            stated = {key: value for key, value in self._config.items() if key != "quantization_config"}
            shape = CheckpointConfig.of(stated).shape()
            yield from (None if layer in shape.full_layers else shape.window for layer in range(layers))
            return
        window = self._config.get("sliding_window") if self._config.get("use_sliding_window", True) else None
        types = self._config.get("layer_types")
        if window is not None and types is None and None in self.file.windows().values() and window < self.context:
            raise ArtifactError(f"{CONFIG} has a window of {window} tokens, which the graph has dropped")
        yield from (window if kind == "sliding_attention" else None for kind in types or ())

    def _sizes(self) -> Sizes:
        config, genai = self._config, _decoder_of(self._genai)
        heads = config.get("num_attention_heads") or config.get("n_head")
        hidden = config.get("hidden_size") or config.get("n_embd")
        return Sizes(
            kv_heads=genai.get("num_key_value_heads") or config.get("num_key_value_heads") or heads,
            head_dim=genai.get("head_size")
            or config.get("head_dim")
            or (hidden // heads if hidden and heads else None),
            vocab=self._genai_model.get("vocab_size") or config.get("vocab_size"),
        )

    def _folders(self) -> tuple[Path, Path]:
        return self.graph.parent, self.graph.parent.parent

    @cached_property
    def _config(self) -> dict[str, Any]:
        return next((stated for folder in self._folders() if (stated := _json(folder / CONFIG))), {})

    @cached_property
    def _genai(self) -> dict[str, Any]:
        return _json(self.graph.parent / GENAI_CONFIG)

    @property
    def _genai_model(self) -> dict[str, Any]:
        model = self._genai.get("model")
        return model if isinstance(model, dict) else {}


def _decoder_of(genai: Mapping[str, Any]) -> dict[str, Any]:
    model = genai.get("model")
    decoder = model.get("decoder") if isinstance(model, dict) else None
    return decoder if isinstance(decoder, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    stated = read_json(path)
    return stated if isinstance(stated, dict) else {}
