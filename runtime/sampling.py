"""Picks the next token of every row of a batch. Each request draws from a random stream of its own.

Order within a row: constraint mask, logit bias, penalties, temperature, top-k, min-p, top-p, draw. The stream is Philox
(Salmon et al., SC 2011), keyed by the seed and counted by the token's position, so that a draw depends on nothing but
(seed, position): not on the batch, not on other requests, not on what was drawn before. Every row is computed by the
same operations whatever stands beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.config import SamplingParams
from runtime.errors import BadParameter

GREEDY_BELOW = 1e-5
"""Temperatures under this are greedy; clients that can't send 0 send 1e-8."""

_MANTISSA = 53
_SEEDS = 2**64
_BLOCK = 256  # scores summed at a time before one is drawn
_NEGLIGIBLE = 25.0  # a candidate this many temperatures below the best has a probability under 2e-11
_STRONGEST = 1e6  # a penalty past it does no more, and float32 would make an infinity of what a card lets through
_LIKELY_ENOUGH = (64, 1024)  # how many of the best entries usually hold top_p's share
Scores: TypeAlias = NDArray[np.float32]
_Given = TypeVar("_Given")


class Constraint(Protocol):
    """Restricts what may come next, such as a grammar; one per request."""

    def allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next, bool [vocab]; at least one."""

    def accept(self, token: int) -> None:
        """Go on from ``token``, which was allowed."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A chosen token. ``logprob`` and ``top`` (token and logprob, best first) only where they were asked for.

    They are natural logarithms of the model's own distribution, before temperature and penalties, as OpenAI's are.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """One request's sampling state: its stream, its counts, its constraint."""

    def __init__(self, params: SamplingParams, prompt: Sequence[int], constraint: Constraint | None = None) -> None:
        if not 0 <= (params.min_p or 0) <= 1:
            raise BadParameter("/min_p", "'/min_p' must be between 0 and 1")
        self.params = params
        self._seed = params.seed % _SEEDS if params.seed is not None else int.from_bytes(os.urandom(8), "little")
        self._constraint = constraint
        self._seen = set(prompt)
        self._counts: dict[int, int] = {}
        self._position = 0
        self._repetition = min(max(params.repetition_penalty or 1.0, 1 / _STRONGEST), _STRONGEST)
        self._per_use, self._once = _bounded(params.frequency_penalty), _bounded(params.presence_penalty)

    @property
    def greedy(self) -> bool:
        """Whether the best token is taken without a draw."""
        params = self.params
        return params.temperature < GREEDY_BELOW or params.top_k == 1 or params.top_p == 0

    def adjust(self, scores: Scores) -> None:
        """Apply mask, bias and penalties to one row of scores, in place.

        Repetition penalty: prompt and output, scores above zero divided and others multiplied (Keskar et al. 2019, as
        Hugging Face applies it; 0, which a card may let through, means none). Frequency and presence penalties: the
        output alone, subtracted per use and once (OpenAI's definition).
        """
        if self._constraint is not None:
            scores[~self._constraint.allowed()] = -np.inf
        for token, bias in self.params.logit_bias:
            scores[token] += bias
        if self._repetition != 1.0:
            seen = np.fromiter(self._seen, np.int64, len(self._seen))
            values = scores[seen]
            scores[seen] = np.where(values > 0, values / self._repetition, values * self._repetition)
        if self._counts and (self._per_use or self._once):
            used = np.fromiter(self._counts, np.int64, len(self._counts))
            times = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            scores[used] -= times * np.float32(self._per_use) + np.float32(self._once)

    def uniform(self) -> float:
        """A number in [0, 1) that depends on the seed and the position alone."""
        bits = int(np.random.Philox(key=self._seed, counter=self._position).random_raw())
        return (bits >> (64 - _MANTISSA)) / float(1 << _MANTISSA)

    def record(self, token: int) -> None:
        """Count a chosen token and go on to the next position."""
        self._seen.add(token)
        self._counts[token] = self._counts.get(token, 0) + 1
        self._position += 1
        if self._constraint is not None:
            self._constraint.accept(token)


def _bounded(penalty: float | None) -> float:
    return min(max(penalty or 0.0, -_STRONGEST), _STRONGEST)


def sample(samplers: Sequence[Sampler], logits: Scores) -> list[Sampled | Exception]:
    """The next token of every row: ``logits`` float32 [len(samplers), vocab], which is used up.

    A row whose constraint or bias raises gets that exception; the others don't notice.
    """
    told = [_logprobs(sampler.params, row) for sampler, row in zip(samplers, logits, strict=True)]
    faults = [_fault(sampler.adjust, row) for sampler, row in zip(samplers, logits, strict=True)]
    tokens = logits.argmax(axis=1)
    drawing = [place for place, sampler in enumerate(samplers) if faults[place] is None and not sampler.greedy]
    if drawing:
        tokens[drawing] = _draw([samplers[place] for place in drawing], logits[drawing])
    return [
        fault or _fault(sampler.record, int(token)) or _tell(int(token), row, sampler.params)
        for fault, sampler, token, row in zip(faults, samplers, tokens, told, strict=True)
    ]


def _fault(call: Callable[[_Given], None], given: _Given) -> Exception | None:
    try:
        call(given)
    except Exception as error:  # a grammar's, say: whoever brought it hears of it
        return error
    return None


def sample_along(sampler: Sampler, drafts: Sequence[int], logits: Scores) -> list[Sampled | Exception]:
    """One row's next tokens, as far as they are those drafted, and the one behind them.

    ``logits`` float32 [len(drafts) + 1, vocab], used up: row i follows the first i drafts. Each token is sampled as it
    would be without a draft, so what comes out has the model's own distribution (see runtime/speculation.py).
    """
    chosen: list[Sampled | Exception] = []
    for place, row in enumerate(logits):
        (last,) = sample([sampler], row[np.newaxis])
        chosen.append(last)
        if isinstance(last, Exception) or last.token not in drafts[place : place + 1]:
            break
    return chosen


def _draw(samplers: Sequence[Sampler], scores: Scores) -> list[int]:
    """One draw per row, from the weights exp((score - best) / temperature) that top-k, min-p and top-p leave."""
    best = scores.max(axis=1, keepdims=True)
    temperatures = np.array([[sampler.params.temperature] for sampler in samplers], np.float32)
    weights = np.exp(np.maximum((scores - best) / temperatures, -_NEGLIGIBLE - 1))
    weights[weights < np.float32(np.exp(-_NEGLIGIBLE))] = 0
    for sampler, row, score in zip(samplers, weights, scores, strict=True):
        _narrow(sampler.params, row, score)
    starts = np.arange(0, weights.shape[1], _BLOCK)
    blocks = np.cumsum(np.add.reduceat(weights, starts, axis=1), axis=1, dtype=np.float64)
    return [_pick(sampler.uniform(), row, sums) for sampler, row, sums in zip(samplers, weights, blocks, strict=True)]


def _narrow(params: SamplingParams, weights: Scores, scores: Scores) -> None:
    """Set the weights that top-k, min-p and top-p leave out to zero, in place. The largest weight is 1."""
    if params.top_k is not None and params.top_k < weights.size:
        kept = np.argpartition(scores, -params.top_k)[-params.top_k :]
        _only(weights, kept)
    if params.min_p:
        weights[weights < np.float32(params.min_p)] = 0
    if params.top_p is not None and params.top_p < 1:
        _only(weights, _most_likely(weights, params.top_p))


def _only(weights: Scores, kept: NDArray[np.intp]) -> None:
    values = weights[kept]
    weights.fill(0)
    weights[kept] = values


def _most_likely(weights: Scores, share: float) -> NDArray[np.intp]:
    """The fewest largest weights whose sum reaches ``share`` of the whole; at least one."""
    wanted = share * float(weights.sum(dtype=np.float64))
    for size in (*_LIKELY_ENOUGH, weights.size):
        best = np.arange(weights.size)
        if size < weights.size:  # sorting the few that matter, not the whole vocabulary
            best = np.argpartition(weights, -size)[-size:]
        order = best[np.argsort(-weights[best], kind="stable")]
        cumulative = np.cumsum(weights[order], dtype=np.float64)
        if cumulative[-1] >= wanted:
            break
    return order[: int(np.searchsorted(cumulative, wanted)) + 1]


def _pick(uniform: float, weights: Scores, block_sums: NDArray[np.float64]) -> int:
    """The token at ``uniform`` of the way through the weights: first its block, then its place there."""
    target = uniform * block_sums[-1]
    block = min(int(np.searchsorted(block_sums, target, side="right")), len(block_sums) - 1)
    inside = weights[block * _BLOCK : (block + 1) * _BLOCK]
    rest = target - (block_sums[block - 1] if block else 0.0)
    place = int(np.searchsorted(np.cumsum(inside, dtype=np.float64), rest, side="right"))
    if place == len(inside):  # the sums' last rounding: the last token that has a weight
        place = int(np.flatnonzero(inside)[-1])
    return block * _BLOCK + place


def _logprobs(params: SamplingParams, scores: Scores) -> Scores | None:
    """The log-probabilities of one row, if the request asks for any."""
    if params.logprobs is None:
        return None
    shifted = scores - scores.max()
    told: Scores = shifted - np.log(np.exp(shifted).sum(dtype=np.float64)).astype(np.float32)
    return told


def _tell(token: int, logprobs: Scores | None, params: SamplingParams) -> Sampled:
    if logprobs is None:
        return Sampled(token)
    count = min(params.logprobs or 0, logprobs.size)
    if not count:
        return Sampled(token, float(logprobs[token]))
    # Whoever ties with the last of the best is looked at too, so that the lower token wins whatever the partition.
    least = np.partition(logprobs, -count)[-count]
    near = np.flatnonzero(logprobs >= least)
    best = near[np.argsort(-logprobs[near], kind="stable")][:count].tolist()
    return Sampled(token, float(logprobs[token]), tuple((id_, float(logprobs[id_])) for id_ in best))
