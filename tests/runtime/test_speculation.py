"""Drafts are what followed before, and are made only where they pay."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.speculation import MOST_ROWS, PromptLookup

TEXT = [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_what_followed_before_is_proposed() -> None:
    lookup = PromptLookup([*TEXT, 1, 2, 3])
    assert lookup.propose(rows=1, room=4) == (4, 5, 6, 7)[: len(lookup.propose(rows=1, room=4))]
    assert lookup.propose(rows=1, room=4)


def test_the_longest_match_wins_over_a_newer_one() -> None:
    assert PromptLookup([1, 2, 3, 4, 50, 9, 3, 4, 60, 9, 1, 2, 3, 4]).propose(rows=1, room=1) == (50,)


def test_what_never_stood_there_is_not_drafted() -> None:
    assert PromptLookup(TEXT).propose(rows=1, room=4) == ()


def test_no_room_no_draft() -> None:
    assert PromptLookup([*TEXT, *TEXT]).propose(rows=1, room=0) == ()


def test_many_rows_draft_nothing() -> None:
    assert PromptLookup([*TEXT, *TEXT]).propose(rows=MOST_ROWS + 1, room=4) == ()


def test_bad_drafts_end_and_are_tried_again_later() -> None:
    lookup = PromptLookup([*TEXT, *TEXT])
    for _ in range(20):
        lookup.learn(drafted=4, accepted=0)
    assert lookup.propose(rows=1, room=4) == ()
    tried = 0
    for token in TEXT * 8:
        lookup.append(token)
        tried += bool(lookup.propose(rows=1, room=4))
    assert 1 <= tried <= 3


def test_good_drafts_grow_longer() -> None:
    lookup = PromptLookup([*TEXT, *TEXT])
    before = len(lookup.propose(rows=1, room=100))
    for _ in range(20):
        lookup.learn(drafted=4, accepted=4)
    assert len(lookup.propose(rows=1, room=100)) > before


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 9))
def test_a_draft_stands_in_the_text_behind_the_same_tokens(text: list[int], room: int) -> None:
    drafted = PromptLookup(text).propose(rows=1, room=room)
    assert len(drafted) <= room
    if drafted:
        seen = [*text[-2:], *drafted]
        assert any(text[place : place + len(seen)] == seen for place in range(len(text) - 2))
