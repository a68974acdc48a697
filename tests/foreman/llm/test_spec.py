from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.llm import SpecError
from foreman.llm.spec import Alias, Target, expand, parse

names = st.text(st.characters(exclude_characters="/,", exclude_categories=["Z", "C"]), min_size=1)
models = st.text(st.characters(exclude_characters=",", exclude_categories=["Z", "C"]), min_size=1)
targets = st.builds(Target, names, models)
elements = st.lists(targets | st.builds(Alias, names), min_size=1, max_size=6)


def text(element: Target | Alias) -> str:
    return str(element) if isinstance(element, Target) else element.name


def expanded(spec: str, **aliases: str) -> list[str]:
    known = {name: parse(means) for name, means in aliases.items()}
    return [str(target) for target in expand(parse(spec), known)]


@pytest.mark.parametrize(
    ("spec", "provider", "model"),
    [
        ("m1/qwen3:30b", "m1", "qwen3:30b"),
        ("openrouter/meta-llama/Llama-3.1:free", "openrouter", "meta-llama/Llama-3.1:free"),
        ("  m1/a\t", "m1", "a"),
        ("m1/a/", "m1", "a/"),
    ],
)
def test_the_first_slash_divides_and_the_model_is_verbatim(
    spec: str, provider: str, model: str
) -> None:
    assert parse(spec) == (Target(provider, model),)


def test_a_target_named_twice_keeps_its_first_place() -> None:
    assert expanded("m1/a,m5/b,thinking", thinking="m5/b,claude/x") == ["m1/a", "m5/b", "claude/x"]
    assert expanded("m1/a, m1/A") == ["m1/a", "m1/A"]


def test_a_cycle_is_named() -> None:
    with pytest.raises(SpecError, match=r"circle: a -> b -> a$"):
        expanded("x/y, a", a="b", b="a")
    with pytest.raises(SpecError, match=r"circle: b -> b$"):
        expanded("a", a="b", b="b")


def test_a_diamond_is_no_cycle() -> None:
    assert expanded("a", a="b,c", b="d", c="d", d="p/m") == ["p/m"]


def test_a_tower_of_diamonds_costs_nothing() -> None:
    tower = {f"a{floor}": f"a{floor + 1},a{floor + 1}" for floor in range(200)}
    assert expanded("a0", **tower, a200="p/m") == ["p/m"]


def test_aliases_match_exactly() -> None:
    assert expanded("fast", fast="Fast", Fast="p/m") == ["p/m"]
    with pytest.raises(SpecError, match="no alias 'FAST'"):
        expanded("FAST", fast="p/m")


def test_an_unknown_alias_says_who_used_it() -> None:
    with pytest.raises(SpecError, match=r"no alias 'b', used by 'a', among: a; .*provider/model"):
        expanded("a", a="b")


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ("", "column 1 of '': a target"),
        (",", "column 1 of ',': a target"),
        ("a/b,", "column 5 of 'a/b,': a target"),
        ("a/b,,c/d", "column 5 of"),
        ("m1/", "column 1 of 'm1/': there is no model after the slash"),
        ("a/b, /x", "column 6 of 'a/b, /x': there is no provider before the slash"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(spec: str, wrong: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(spec)
    assert str(caught.value).startswith(wrong)


@given(elements, st.data())
def test_what_is_written_is_read_back(written: list[Target | Alias], data: Any) -> None:
    spaces = st.text(" \t", max_size=2)
    spec = ",".join(data.draw(spaces) + text(each) + data.draw(spaces) for each in written)
    assert parse(spec) == tuple(written)


@given(st.text(max_size=30))
def test_any_text_is_a_spec_or_is_refused(spec: str) -> None:
    try:
        read = parse(spec)
    except SpecError:
        return
    assert parse(",".join(map(text, read))) == read


@given(st.dictionaries(st.sampled_from("abcde"), elements, max_size=5), elements)
def test_expanding_ends_and_names_each_target_once(
    aliases: dict[str, list[Target | Alias]], spec: list[Target | Alias]
) -> None:
    known = {name: tuple(means) for name, means in aliases.items()}
    try:
        found = expand(tuple(spec), known)
    except SpecError:
        return
    direct = [each for each in spec if isinstance(each, Target)]
    assert len(set(found)) == len(found)
    assert set(direct) <= set(found)


@given(st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("abcd"), min_size=1)))
def test_aliases_of_aliases_expand_or_are_refused(graph: dict[str, list[str]]) -> None:
    known = {name: parse(",".join([f"p/{name}", *means])) for name, means in graph.items()}
    try:
        found = expand(parse("a"), known)
    except SpecError as error:
        assert "circle" in str(error) or "no alias" in str(error)
        return
    assert found[0] == Target("p", "a")
