"""Grammars over a model's tokens: the constraints that make an answer JSON of a schema, or a call of a tool.

llguidance does the work: it turns a JSON Schema into a mask over the vocabulary, token after token. What it can't
express it refuses, so that nothing is promised which the mask doesn't hold. Knows no API and no chat template.
"""

from __future__ import annotations

import importlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ArtifactError, BadParameter, NoGrammars
from runtime.json_schema import for_grammar, place_of

_LINE = re.compile(r"at (\d+)\(")
_LISTING = re.compile(r"\n\s*\d+ \|.*", re.DOTALL)  # of a grammar that nobody but roost has seen
_UNKNOWN = re.compile(r"Unimplemented keys: (\[.*\])")
_LIMITS = {
    "max_grammar_size": 200_000,  # symbols; bounds the time to compile and the memory that a grammar holds
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 50_000,
    "max_lexer_states": 50_000,  # some 2 kB each
    "verbose_errors": False,
}


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

    def compile(self, rules: Sequence[Rule]) -> GrammarConstraint:
        """The constraint of text that is one of ``rules``; takes milliseconds, the first one half a second.

        Raises :class:`BadParameter` at the input whose rule can't be compiled, with the reason.
        """
        library, tokenizer = _library(), self._loaded()
        matcher = library.LLMatcher(tokenizer, _any_of(rules), log_level=0, limits=library.LLParserLimits(**_LIMITS))
        constraint = GrammarConstraint(matcher, self._vocab, tokenizer.vocab_size, self._stop_tokens)
        try:
            constraint.allowed()  # the lexer's first, slow step belongs here, not on the engine's thread
        except RuntimeError as error:
            raise _refusal(str(error), rules) from None
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


@dataclass(frozen=True, slots=True)
class Rule:
    """The right side of a Lark rule, the schema in it, and the input that the schema came from.

    ``of``: the tool's name, where it is a tool's.
    """

    text: str
    schema: Mapping[str, Any]
    path: str
    of: str = ""

    def between(self, before: str, after: str) -> Rule:
        """The rule with text before and after."""
        return replace(self, text=f"{json.dumps(before)} {self.text} {json.dumps(after)}")


def json_rule(schema: Mapping[str, Any], path: str, of: str = "") -> Rule:
    """A rule for JSON of ``schema``. Raises :class:`BadParameter` past the bounds."""
    return Rule(f"%json {for_grammar(schema, path)}", schema, path, of)


def _any_of(rules: Sequence[Rule]) -> str:
    """A grammar whose text is one of ``rules``, a line for each after the first."""
    names = [f"form{place}" for place in range(len(rules))]
    told = (f"{name}: {rule.text}" for name, rule in zip(names, rules, strict=True))
    return "\n".join([f"start: {' | '.join(names)}", *told])


def _refusal(said: str, rules: Sequence[Rule]) -> BadParameter:
    """The library's first sentence, at the rule that it speaks of and with the place in that rule's schema."""
    line = _LINE.match(said)
    rule = rules[int(line[1]) - 2] if line and 2 <= int(line[1]) < len(rules) + 2 else rules[0]
    reason = _LISTING.sub("", said.partition("failed to compile JSON schema: ")[2] or said).strip().replace("\n", " ")
    if found := _UNKNOWN.fullmatch(reason):
        places = {keyword: place_of(rule.schema, keyword) for keyword in json.loads(found[1])}
        told = [f"'{keyword}'" + (f" at '{place}'" if place else "") for keyword, place in places.items()]
        reason = f"no grammar holds {', '.join(told)}"
    of = f", in the parameters of {rule.of}" if rule.of else ""
    return BadParameter(rule.path, f"'{rule.path}' can't be compiled: {reason}{of}")


def _library() -> Any:
    try:
        return importlib.import_module("llguidance")
    except ImportError:
        raise NoGrammars("JSON mode and forced tool calls need llguidance: pip install 'roost[json]'") from None
