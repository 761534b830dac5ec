"""The engine's laws with decode steps of one shape and prompts cut on a grid, as CUDA has them, proven on the CPU."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.device import Device
from runtime.scheduler import Release, Span, StepPlan
from runtime.session import DecoderSession
from tests.models.arithmetic import VOCAB, continuation
from tests.runtime.conftest import Decoder, StartEngine, WatchedExecutor, engine_starter
from tests.runtime.test_engine import (  # noqa: F401  (collected here too, over this module's engines)
    read,
    submit,
    test_a_failed_step_leaves_no_wrong_kept_prompt,
    test_abort_frees_rows_in_any_state,
    test_alone_matches_the_closed_form,
    test_batch_matches_single,
    test_chunking_changes_nothing,
    test_drafts_change_no_token,
    test_fifty_random_leavers_disturb_nobody,
    test_kept_prompts_stay_within_the_budget,
    test_preempted_resumes_identically,
    test_rows_of_unequal_length_end_and_are_refilled,
    test_same_seed_gives_the_same_tokens_alone_and_in_a_full_batch,
    test_staggered_admission_disturbs_nobody,
    test_the_longest_request_fits,
    test_whatever_comes_and_goes_every_token_is_right,
)


@pytest.fixture
def start_engine(arithmetic_decoder: Path) -> Iterator[StartEngine]:
    yield from engine_starter(Decoder(arithmetic_decoder, None), steady=True)


def cuts(session: WatchedExecutor) -> dict[int, list[tuple[int, int]]]:
    """Where each sequence's chunks began and how long they were."""
    found: dict[int, list[tuple[int, int]]] = {}
    for plan in session.plans:
        if plan.chunk is not None:
            found.setdefault(plan.chunk.sequence, []).append((plan.chunk.start, len(plan.chunk.tokens)))
    return found


async def test_a_prompt_is_cut_alike_alone_and_in_a_crowd(start_engine: StartEngine) -> None:
    prompt = [1] * 37
    expected = [(0, 8), (8, 8), (16, 8), (24, 8), (32, 5)]
    engine = start_engine(rows=4, kept_prompts=0)
    session = engine._executor
    assert isinstance(session, WatchedExecutor)
    await read(submit(engine, prompt, 3))
    others = [submit(engine, [place, *range(place)], 30) for place in range(2, 9)]
    await asyncio.gather(read(submit(engine, prompt, 3)), *map(read, others))
    told = [found for found in cuts(session).values() if sum(size for _, size in found) == 37]
    assert told == [expected, expected]


@pytest.mark.parametrize(("kept", "shared", "copied"), [(40, 40, 32), (33, 33, 24), (34, 34, 32), (60, 35, 32)])
async def test_only_whole_chunks_are_copied(start_engine: StartEngine, kept: int, shared: int, copied: int) -> None:
    """33 tokens are three chunks of 8 and one of 9, 34 four and one of 2."""
    engine = start_engine(rows=2)
    base = [place % VOCAB for place in range(kept)]
    await read(submit(engine, base, 2))
    asked = [*base[:shared], 90, 91, 92, 93]
    again = submit(engine, asked)
    assert await read(again) == continuation(asked, 20)
    assert again.cached_tokens == copied


def test_idle_rows_leave_every_slot_as_it_was(arithmetic_decoder: Path) -> None:
    session = DecoderSession(arithmetic_decoder, slots=4, capacity=32, device=Device(), threads=1, steady=True)
    texts = {0: (1, 2, 3), 1: (4, 5), 3: (6, 7, 8, 9)}
    for slot, text in texts.items():
        session.run(StepPlan((), (), Span(slot, slot, 0, text, samples=False)))
    before = {slot: session.kept(slot, len(text)) for slot, text in texts.items()}
    session.run(StepPlan((Release(2),), (Span(0, 0, 3, (11,), samples=True),), None))
    for slot, text in texts.items():
        for name, values in session.kept(slot, len(text)).items():
            np.testing.assert_array_equal(values, before[slot][name])
    logits = session.run(StepPlan((), (Span(3, 3, 4, (10,), samples=True),), None))
    assert logits.argmax() == continuation([6, 7, 8, 9, 10], 1)[0]
    session.close()
