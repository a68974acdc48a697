import itertools

from hypothesis import given
from hypothesis import strategies as st

from foreman.llm import FinishReason, Response, Text, Thinking, ToolCall, Usage
from foreman.llm.assembly import Assembly


def finished(answer: Assembly, why: FinishReason = FinishReason.STOP) -> Response:
    response = answer.finish(why).response
    assert response is not None
    return response


@given(st.lists(st.text()))
def test_each_event_has_its_delta_and_all_text_so_far(deltas: list[str]) -> None:
    answer = Assembly("box/m")

    events = [answer.say(delta) for delta in deltas]

    assert [event.delta for event in events] == deltas
    assert [event.text for event in events] == [
        "".join(deltas[: end + 1]) for end in range(len(deltas))
    ]
    assert finished(answer).text == "".join(deltas)


@given(st.lists(st.tuples(st.booleans(), st.text())))
def test_thoughts_never_get_into_the_text(said: list[tuple[bool, str]]) -> None:
    answer = Assembly("box/m")

    events = [answer.think(it) if thought else answer.say(it) for thought, it in said]
    response = finished(answer)

    assert response.text == "".join(event.delta for event in events)
    assert response.thinking == "".join(event.thinking for event in events)


@given(st.text(), st.lists(st.integers(min_value=0, max_value=20), max_size=5))
def test_a_call_in_pieces_is_the_call_whole(arguments: str, cuts: list[int]) -> None:
    answer = Assembly("box/m")
    edges = [0, *sorted(cuts), len(arguments) + 20]

    answer.fragment(0, call_id="1", name="f")
    for start, end in itertools.pairwise(edges):
        answer.fragment(0, arguments=arguments[start:end])

    [event] = answer.complete_calls()
    assert event.tool_call == ToolCall("1", "f", arguments or "{}")
    assert finished(answer).tool_calls == (event.tool_call,)


def test_interleaved_calls_come_out_by_index() -> None:
    answer = Assembly("box/m")
    answer.fragment(1, call_id="b", name="g", arguments='{"x"')
    answer.fragment(0, call_id="a", name="f")
    answer.fragment(1, arguments=":1}")

    events = answer.complete_calls()

    assert [event.tool_call for event in events] == [
        ToolCall("a", "f", "{}"),
        ToolCall("b", "g", '{"x":1}'),
    ]
    assert answer.complete_calls() == []


def test_an_answer_is_thoughts_then_text_then_calls() -> None:
    answer = Assembly("box/m", vendor="fake")
    call = ToolCall("1", "f")
    answer.call(call)
    answer.say("Hello")
    answer.think("Hm")
    answer.seal("sig")

    parts = finished(answer, FinishReason.TOOL_CALLS).message.parts

    assert parts == (Thinking("Hm", "fake", "sig"), Text("Hello"), call)


def test_calls_without_text_leave_no_text_part() -> None:
    answer = Assembly("box/m")
    answer.call(ToolCall("1", "f"))

    assert finished(answer).message.parts == (ToolCall("1", "f"),)


def test_the_last_event_has_all_text_and_no_delta() -> None:
    answer = Assembly("box/m")
    answer.say("Hello")

    last = answer.finish(FinishReason.LENGTH, response_id="x", reported_cost=0.5)

    assert (last.delta, last.text) == ("", "Hello")
    assert last.response is not None
    assert last.response.finish is FinishReason.LENGTH
    assert (last.response.target, last.response.id) == ("box/m", "x")
    assert last.response.reported_cost == 0.5


def test_usage_told_twice_is_not_counted_twice() -> None:
    answer = Assembly("box/m")
    answer.report(Usage(input=200, cache_read=1000, cache_write=200, output=1))
    answer.report(Usage(output=30))

    assert finished(answer).usage.total == 1430


def test_usage_never_told_is_unknown() -> None:
    assert finished(Assembly("box/m")).usage == Usage()
