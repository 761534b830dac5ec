"""Grammars over a model's tokens: the constraints that make an answer JSON of a schema, or a call of a tool.

llguidance does the work: it turns a JSON Schema into a mask over the vocabulary, token after token. What it can't
express it refuses, so that nothing is promised which the mask doesn't hold. Knows no API and no chat template.
"""

from __future__ import annotations

import importlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ArtifactError, BadParameter, NoGrammars

MAX_SCHEMA = 128 << 10
"""Bytes of JSON that a request's schemas may have together."""
_MAX_DEPTH = 64
_MAX_NAMES = 400  # of one object or choice: past some 500 a step's parser has too much to look at
_LIMITS = {
    "max_grammar_size": 200_000,  # symbols; bounds the time to compile and the memory that a grammar holds
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,  # some 2 kB each
    "verbose_errors": False,
}
# One space after a comma and a colon, as models write it; free white space is where weak ones go round for ever.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": False}


class GrammarConstraint:
    """One request's place in its grammar. See :class:`runtime.sampling.Constraint`."""

    def __init__(self, matcher: Any, vocab: int, bits: int, stop_tokens: frozenset[int]) -> None:
        self._matcher = matcher
        self._vocab = vocab
        self._bits = np.zeros((bits + 31) // 32, np.int32)
        self._stop_tokens = stop_tokens
        self._ends = np.array(sorted(stop_tokens), np.int64)

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, bool [vocab]; a stop token only where the text is whole."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        flags = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        mask = np.zeros(self._vocab, np.bool_)
        known = min(self._vocab, flags.size)
        mask[:known] = flags[:known]
        mask[self._ends] = self.complete
        return mask

    def accept(self, token: int) -> None:
        """Go on from ``token``."""
        if token not in self._stop_tokens:
            self._matcher.consume_token(token)
            self._check()

    @property
    def complete(self) -> bool:
        """Whether the text so far is whole."""
        return bool(self._matcher.is_accepting())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise RuntimeError(self._matcher.get_error())


class Grammars:
    """Compiles grammars for one model. ``vocab``: the width of its logits; ``tokenizer`` makes its ``tokenizer.json``.

    The library and its view of the vocabulary are loaded by the first grammar: most models never need them.
    """

    def __init__(self, tokenizer: Callable[[], str], vocab: int, stop_tokens: frozenset[int]) -> None:
        self._to_json = tokenizer
        self._vocab = vocab
        self._stop_tokens = stop_tokens
        self._lock = threading.Lock()
        self._tokenizer: Any = None

    def compile(self, grammar: str, path: str) -> GrammarConstraint:
        """The constraint of a Lark grammar (llguidance's dialect); takes milliseconds, the first one half a second.

        Raises :class:`BadParameter` at ``path``, the input that it came from, where it can't be compiled.
        """
        library, tokenizer = _library(), self._loaded()
        matcher = library.LLMatcher(tokenizer, grammar, log_level=0, limits=library.LLParserLimits(**_LIMITS))
        constraint = GrammarConstraint(matcher, self._vocab, tokenizer.vocab_size, self._stop_tokens)
        try:
            constraint.allowed()  # the lexer's first, slow step belongs here, not on the engine's thread
        except RuntimeError as error:
            raise BadParameter(path, f"'{path}' can't be compiled: {_reason(str(error))}") from None
        return constraint

    def _loaded(self) -> Any:
        with self._lock:
            if self._tokenizer is None:
                library = _library()
                try:
                    self._tokenizer = library.LLTokenizer(
                        self._to_json(), n_vocab=None, eos_token=sorted(self._stop_tokens) or None
                    )
                except Exception as error:  # whatever it makes of a tokenizer that it doesn't know
                    raise ArtifactError(f"this model's tokenizer can't be constrained: {error}") from error
            return self._tokenizer


def json_rule(schema: Mapping[str, Any], path: str) -> str:
    """``schema`` as the right side of a Lark rule. Raises :class:`BadParameter` past the bounds."""
    _refuse_size(schema, path)
    text = json.dumps({**schema, "x-guidance": _STYLE})
    if len(text) > MAX_SCHEMA:
        raise BadParameter(path, f"'{path}' is larger than {MAX_SCHEMA >> 10} KiB")
    return f"%json {text}"


def any_of(rules: Sequence[str]) -> str:
    """A grammar whose text is one of ``rules``, each the right side of a Lark rule."""
    names = [f"form{place}" for place in range(len(rules))]
    return "\n".join([f"start: {' | '.join(names)}", *map(": ".join, zip(names, rules, strict=True))])


def _refuse_size(value: Any, path: str, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise BadParameter(path, f"'{path}' is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, Mapping) and len(value) > _MAX_NAMES:
        raise BadParameter(path, f"'{path}' has an object of more than {_MAX_NAMES} names")
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for entry in inner:
        _refuse_size(entry, path, depth + 1)


def _reason(said: str) -> str:
    """The library's first sentence, without the place in a grammar that nobody but roost has seen."""
    return said.partition("failed to compile JSON schema: ")[2].partition("\n1 |")[0].strip().replace("\n", " ") or said


def _library() -> Any:
    try:
        return importlib.import_module("llguidance")
    except ImportError:
        raise NoGrammars("JSON mode and forced tool calls need llguidance: pip install 'roost[json]'") from None
