"""Calls of tools: found in any split of the text, told in words or by the template, in the model's own dialect."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.chat_template import ChatTemplate
from runtime.config import Tool
from runtime.tool_calls import CallReader, ToolCall, dialect_of, in_words, with_parsed_calls

WEATHER = Tool("weather", "Tells it", {"type": "object", "properties": {"city": {"type": "string"}}})
PARIS = ToolCall("weather", '{"city": "Paris"}')
ONE = '{"name": "weather", "arguments": {"city": "Paris"}}'
FOUND: list[tuple[str, str, list[ToolCall]]] = [
    ("Just words.", "Just words.", []),
    ("a < b <tool", "a < b <tool", []),
    ("  \n", "  \n", []),
    (f"<tool_call>\n{ONE}\n</tool_call>", "", [PARIS]),
    (f"Let me see. <tool_call>{ONE}</tool_call><tool_call>{ONE}</tool_call>", "Let me see. ", [PARIS, PARIS]),
    (f"<tool_call>{ONE}</tool_call>\n<tool_response>made up", "", [PARIS]),
    (f"<tool_call>{ONE}", "", [PARIS]),
    (ONE, "", [PARIS]),
    (f" [{ONE}, {ONE}]", "", [PARIS, PARIS]),
    ('{"name": "weather", "parameters": {"city": "Paris"}}', "", [PARIS]),
    ('{"type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": \\"Paris\\"}"}}', "", [PARIS]),
    ('{"name": "other", "arguments": {}}', '{"name": "other", "arguments": {}}', []),
    ('{"name": "weather", "arguments": 3}', '{"name": "weather", "arguments": 3}', []),
    ("<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", []),
    ("[1, 2]", "[1, 2]", []),
]


@pytest.mark.parametrize(("text", "words", "calls"), FOUND)
@given(cuts=st.lists(st.integers(0, 120), max_size=6))
def test_calls_are_found_whatever_the_pieces(text: str, words: str, calls: list[ToolCall], cuts: list[int]) -> None:
    reader, places = CallReader([WEATHER]), sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    shown = "".join(reader.feed(text[start:end]) for start, end in itertools.pairwise(places))
    assert shown == words[: len(shown)]
    rest, found = reader.finish()
    assert (shown + rest, found) == (words, calls)


def test_words_are_shown_at_once() -> None:
    reader = CallReader([WEATHER])
    assert [reader.feed(piece) for piece in ("Hel", "lo <", "b>")] == ["Hel", "lo ", "<b>"]


def test_calls_have_ids_of_their_own() -> None:
    assert ToolCall("a", "{}").id != ToolCall("a", "{}").id


HISTORY: list[dict[str, Any]] = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "x", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "x", "content": "sunny"},
]


@pytest.mark.parametrize("call", [HISTORY[1]["tool_calls"][0], {"name": "weather", "arguments": {"city": "Paris"}}])
def test_calls_in_the_history_are_objects_whatever_their_spelling(call: dict[str, Any]) -> None:
    (message,) = with_parsed_calls([{"role": "assistant", "content": None, "tool_calls": [call]}])
    assert message["content"] == ""
    assert message["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Paris"}}


def test_a_template_without_tools_has_them_in_words() -> None:
    first, call, result = in_words(with_parsed_calls(HISTORY), [WEATHER])
    assert first["content"].startswith("You may call")
    assert '"name": "weather"' in first["content"]
    assert first["content"].endswith("\n\nWeather?")
    assert call == {"role": "assistant", "content": f"<tool_call>\n{ONE}\n</tool_call>"}
    assert result == {"role": "user", "content": "<tool_response>\nsunny\n</tool_response>"}


def test_a_template_says_whether_it_takes_tools() -> None:
    assert ChatTemplate("{% if tools %}{{ tools }}{% endif %}", {}).takes_tools
    assert not ChatTemplate("{{ messages[0].tools }}", {}).takes_tools


@pytest.mark.parametrize(
    ("template", "begins", "ends"),
    [
        (None, '"<tool_call>\\n{\\"name\\": \\"weather\\", \\"arguments\\": "', '"}\\n</tool_call>"'),
        ("{{ '<tool_call>' }}", '"<tool_call>\\n{', '"}\\n</tool_call>"'),
        ("[TOOL_CALLS]", '"[{\\"name\\"', '"}]"'),
        ('"parameters"', '"{\\"name\\": \\"weather\\", \\"parameters\\": "', '"}"'),
    ],
)
def test_a_forced_call_is_in_the_template_s_dialect(template: str | None, begins: str, ends: str) -> None:
    rule = dialect_of(template).rule(WEATHER, "/tools").text
    assert rule.startswith(begins)
    assert rule.endswith(ends)
