"""Chat templates from outside end in time and in memory, whatever they try."""

import pytest

from runtime import template_bounds
from runtime.chat_template import ChatTemplate
from runtime.errors import ArtifactError, BadParameter

CHAT = [{"role": "user", "content": "Hello"}]
MANY, END = "{% for a in range(9999) %}", "{% endfor %}"


def grown(by: str) -> str:
    return f"{{% set n = namespace(x='xx') %}}{MANY}{{% set n.x = {by} %}}{END}"


HOSTILE = {
    "a loop": "{% for a in range(10**9) %}x{% endfor %}",
    "loops in loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "loops that say nothing": f"{MANY}{MANY}{{% set c = a %}}{END}{END}",
    "a filter's loop": "{% for a in range(9999) %}{% for b in range(9999) if a > b %}{% endfor %}{% endfor %}",
    "a recursion": "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    "a recursion in two": "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a multiplied text": "{{ 'x' * 10**10 }}",
    "a multiplied list": "{{ [1] * 10**10 }}",
    "the other way round": "{{ 10**10 * 'x' }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a doubled text": grown("n.x ~ n.x"),
    "a doubled sum": grown("n.x + n.x"),
    "a doubled replacement": grown("n.x.replace('x', n.x)"),
    "a doubled join": grown("n.x.join([n.x, n.x, n.x])"),
    "padding": "{{ 'x'.ljust(10**10) }}",
    "a padding filter": "{{ 'x' | center(10**10) }}",
    "an indent": "{{ 'x\ny' | indent(10**10) }}",
    "a wide format": "{{ '%10000000000d' % 1 }}",
    "a wide format filter": "{{ '%10000000000d' | format(1) }}",
    "a width from outside": "{{ '%*d' % (10**10, 1) }}",
    "a wide str.format": "{{ '{:10000000000d}'.format(1) }}",
    "a nested width": "{{ '{:{}}'.format(1, 10**10) }}",
    "a lot said": "{% for a in range(9999) %}{{ 'x' * 99999 }}{% endfor %}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_is_a_refusal(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_bounds, "MAX_SECONDS", 0.5)
    monkeypatch.setattr(template_bounds, "MAX_LENGTH", 1 << 20)
    with pytest.raises((BadParameter, ArtifactError), match="chat template"):
        ChatTemplate(source, {}).render(CHAT)


def test_what_usual_templates_do_is_untouched() -> None:
    source = (
        "{%- macro said(m) %}{{ m.role ~ ': ' + m['content'].strip() }}{% endmacro -%}"
        "{%- for m in messages if m.role != 'x' %}{{ loop.index }} {{ said(m) }}{{ '-' * 3 }}"
        "{{ 'a b'.replace('a', 'c') }}{{ ', '.join(['x', 'y']) }}{{ '%s %05d' % ('z', 7) }}{{ '{:>3}'.format(1) }}"
        "{{ 'x' | center(5) }}|{{ 'p\nq' | indent(2) }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ [1] + [2] }}{{ 1 ~ none }}"
        "{% endfor %}"
    )
    rendered = ChatTemplate(source, {}).render([*CHAT, {"role": "x", "content": "y"}])
    assert rendered == "1 user: Hello---c bx, yz 00007  1  x  |p\n  q10243[1, 2]1None"


def test_a_long_chat_renders() -> None:
    source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    chat = [{"role": "user", "content": "word " * 100}] * 20_000
    assert len(ChatTemplate(source, {}).render(chat)) == 20_000 * 506
