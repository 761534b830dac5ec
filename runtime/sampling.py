"""Picks the next token from a row of logits. Each request draws from a random stream of its own.

Order: penalties, temperature, top-k, top-p, draw. The stream is Philox (Salmon et al., SC 2011), keyed by the seed
and counted by the token's position, so a draw depends on nothing but (seed, position): not on the batch, not on
other requests, not on what was drawn before.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from runtime.config import SamplingParams

GREEDY_BELOW = 1e-5
"""Temperatures under this are greedy; clients that can't send 0 send 1e-8."""

_MANTISSA = 53
_NEGLIGIBLE = 40.0  # a candidate this many temperatures below the best has a probability under 5e-18
_LIKELY_ENOUGH = (64, 1024)  # how many of the best entries usually hold top_p's share


class Sampler:
    """One request's sampling state.

    Repetition penalty counts prompt and output (Keskar et al. 2019, CTRL); frequency and presence penalties count
    the output (OpenAI's definition). A repetition penalty of 0, which the card's schema lets through, means none.
    """

    def __init__(self, params: SamplingParams, prompt: list[int]) -> None:
        self._params = params
        self._seed = params.seed if params.seed is not None else int.from_bytes(os.urandom(8), "little")
        self._seen: set[int] = set(prompt)
        self._counts: dict[int, int] = {}
        self._position = 0

    def sample(self, logits: NDArray[np.float32]) -> int:
        """The next token, from its logits float32 [vocab] (left as they are), and record it."""
        scores = self._penalised(logits)
        token = self._choose(scores)
        self._seen.add(token)
        self._counts[token] = self._counts.get(token, 0) + 1
        self._position += 1
        return token

    def _penalised(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        params = self._params
        repetition = params.repetition_penalty or 1.0
        per_use, once = params.frequency_penalty or 0.0, params.presence_penalty or 0.0
        if repetition == 1.0 and not (self._counts and (per_use or once)):
            return logits
        scores = logits.copy()
        if repetition != 1.0:
            seen = np.fromiter(self._seen, np.int64, len(self._seen))
            values = scores[seen]
            scores[seen] = np.where(values > 0, values / repetition, values * repetition)
        if self._counts and (per_use or once):
            used = np.fromiter(self._counts, np.int64, len(self._counts))
            times = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            scores[used] -= times * np.float32(per_use) + np.float32(once)
        return scores

    def _choose(self, scores: NDArray[np.float32]) -> int:
        params = self._params
        if params.temperature < GREEDY_BELOW or params.top_k == 1 or params.top_p == 0:
            return int(scores.argmax())
        kept = _candidates(scores, params)
        probabilities = _softmax(scores[kept], params.temperature)
        if params.top_p is not None and params.top_p < 1:
            inside = _top_p(probabilities, params.top_p)
            kept, probabilities = kept[inside], probabilities[inside]
        cumulative = np.cumsum(probabilities, dtype=np.float64)
        drawn = np.searchsorted(cumulative, self._uniform() * cumulative[-1], side="right")
        return int(kept[min(int(drawn), len(kept) - 1)])

    def _uniform(self) -> float:
        """A number in [0, 1) that depends on the seed and the position alone."""
        bits = int(np.random.Philox(key=self._seed, counter=self._position).random_raw())
        return (bits >> (64 - _MANTISSA)) / float(1 << _MANTISSA)


def _candidates(scores: NDArray[np.float32], params: SamplingParams) -> NDArray[np.intp]:
    """Ascending indices of the ``top_k`` best scores; without it, of all that have any chance of being drawn."""
    if params.top_k is not None and params.top_k < scores.size:
        return np.sort(np.argpartition(scores, -params.top_k)[-params.top_k :])
    return np.flatnonzero(scores >= scores.max() - _NEGLIGIBLE * params.temperature)


def _softmax(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    weights = np.exp((scores - scores.max()) / np.float32(temperature))
    normalised: NDArray[np.float32] = weights / weights.sum()
    return normalised


def _top_p(probabilities: NDArray[np.float32], p: float) -> NDArray[np.intp]:
    """The fewest most probable entries whose sum reaches ``p``; ascending indices, at least one."""
    for size in (*_LIKELY_ENOUGH, probabilities.size):
        best = np.arange(probabilities.size)
        if size < probabilities.size:  # sorting the few that matter, not the whole vocabulary
            best = np.argpartition(probabilities, -size)[-size:]
        order = best[np.argsort(-probabilities[best], kind="stable")]
        cumulative = np.cumsum(probabilities[order], dtype=np.float64)
        if cumulative[-1] >= p:
            break
    reached = int(np.searchsorted(cumulative, p)) + 1
    return np.sort(order[:reached])
