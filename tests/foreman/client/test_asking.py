import pytest

from foreman.client import asking
from foreman.client.answers import ChatResponse, GenerateResponse
from foreman.client.asking import FIRST_PAUSE, LONGEST_PAUSE, Patience, ask
from foreman.client.errors import Damaged, Refused, Unreachable
from foreman.client.transport import Request
from tests.fakes.transport import (
    Says,
    ScriptedTransport,
    away,
    everything,
    first,
    refuses,
    says,
    streams,
)

GET = Request("GET", "/queue")
CHAT = Request("POST", "/api/chat", body=b"{}")


async def test_a_daemon_that_is_away_is_asked_again() -> None:
    transport = ScriptedTransport(away(), away(sent=True), says({"fine": True}))
    assert await ask(transport, GET) == b'{"fine":true}'
    assert transport.paths == ["/queue"] * 3


async def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    transport = ScriptedTransport(Says(b'{"fine": tr', cut=5), says({"fine": True}))
    assert await ask(transport, GET) == b'{"fine":true}'


async def test_pauses_grow_up_to_a_limit() -> None:
    transport = ScriptedTransport(answer=lambda request: away(), patience=100)
    with pytest.raises(Unreachable):
        await ask(transport, GET)
    assert FIRST_PAUSE / 2 <= transport.slept[0] <= FIRST_PAUSE
    assert LONGEST_PAUSE / 2 <= max(transport.slept) <= LONGEST_PAUSE
    assert sum(transport.slept) <= 100


async def test_patience_ends_with_the_error() -> None:
    transport = ScriptedTransport(away(), patience=0)
    with pytest.raises(Unreachable):
        await ask(transport, GET)
    assert transport.slept == []


async def test_patience_begins_anew_once_the_daemon_has_answered() -> None:
    transport = ScriptedTransport(patience=1)
    patience = Patience(transport)
    for _ in range(50):
        await patience.wait(away())
        patience.renew()
    assert max(transport.slept) <= FIRST_PAUSE


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_daemon_is_asked_again_when_it_said(status: int) -> None:
    transport = ScriptedTransport(refuses(status, "queue_full", retry_after="7"), says({}))
    await ask(transport, GET)
    assert transport.slept == [7]


async def test_a_busy_daemon_that_names_a_time_beyond_our_patience_is_not_waited_for() -> None:
    transport = ScriptedTransport(refuses(503, "store_busy", retry_after="61"))
    with pytest.raises(Refused) as caught:
        await ask(transport, GET)
    assert caught.value.retry_after == 61
    assert transport.slept == []


@pytest.mark.parametrize("status", [400, 401, 404, 409, 413, 422, 500, 507])
async def test_another_refusal_is_final(status: int) -> None:
    transport = ScriptedTransport(refuses(status, "because", "of this"))
    with pytest.raises(Refused) as caught:
        await ask(transport, GET)
    refused = caught.value
    assert (refused.status, refused.code) == (status, "because")
    assert refused.detail.startswith("of this")


async def test_a_refusal_names_the_field_that_is_wrong() -> None:
    problem = {"detail": "say a number", "code": "bad_body", "field": "/priority"}
    with pytest.raises(Refused, match="/priority: say a number") as caught:
        await ask(ScriptedTransport(says(problem, 400)), GET)
    assert caught.value.field == "/priority"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "model not found"}', "model not found"),
        (b'{"error": {"message": "no such model", "code": null}}', "no such model"),
        (b'{"type": "error", "error": {"message": "overloaded"}}', "overloaded"),
        (b"<html>", "the answer is 404; is that foreman?"),
        (b"", "the answer is 404; is that foreman?"),
        (b"[]", "the answer is 404; is that foreman?"),
    ],
)
async def test_every_dialects_errors_are_read(body: bytes, text: str) -> None:
    with pytest.raises(Refused) as caught:
        await ask(ScriptedTransport(Says(body, 404)), GET)
    assert caught.value.detail == text


async def test_a_missing_token_is_hinted_at() -> None:
    with pytest.raises(Refused, match="set FOREMAN_TOKEN"):
        await ask(ScriptedTransport(refuses(401, "")), GET)


async def test_an_answer_that_is_not_foremans_is_damaged() -> None:
    with pytest.raises(Damaged, match="not foreman's"):
        await asking.ask_for(ScriptedTransport(Says(b"<html>")), GET, dict[str, int])


async def test_a_chat_that_was_sent_is_not_sent_again() -> None:
    transport = ScriptedTransport(away(sent=True))
    with pytest.raises(Unreachable):
        await asking.answer(transport, CHAT, ChatResponse)
    assert len(transport.asked) == 1


async def test_a_chat_that_never_arrived_is_sent_again() -> None:
    done = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True}
    transport = ScriptedTransport(away(), refuses(503, "busy"), says(done))
    answer = await asking.answer(transport, CHAT, ChatResponse)
    assert answer.message.content == "Hi"


@pytest.mark.parametrize("kind", [ChatResponse, GenerateResponse])
async def test_an_error_in_a_200_is_a_refusal(kind: type[object]) -> None:
    transport = ScriptedTransport(Says(b'    {"error": "the runner died"}'))
    with pytest.raises(Refused, match="the runner died"):
        await asking.answer(transport, CHAT, kind)


async def test_pieces_come_one_by_one_and_an_error_line_ends_them() -> None:
    transport = ScriptedTransport(
        streams({"response": "a", "done": False}, {"error": "the runner died"})
    )
    pieces = asking.pieces(transport, CHAT, GenerateResponse)
    assert (await anext(pieces)).response == "a"
    with pytest.raises(Refused, match="the runner died"):
        await anext(pieces)
    assert transport.open_now == 0


async def test_a_stream_that_breaks_off_is_an_error() -> None:
    transport = ScriptedTransport(streams({"response": "a", "done": False}, broken=True))
    with pytest.raises(Unreachable):
        await everything(asking.pieces(transport, CHAT, GenerateResponse))


async def test_a_stream_that_is_left_early_is_hung_up_on() -> None:
    piece = {"response": "a", "done": False}
    transport = ScriptedTransport(streams(piece, piece, piece))
    await first(asking.pieces(transport, CHAT, GenerateResponse), 1)
    assert transport.open_now == 0


async def test_a_stream_that_is_refused_at_first_is_asked_for_again() -> None:
    transport = ScriptedTransport(
        refuses(503, "busy"), away(), streams({"response": "a", "done": True})
    )
    pieces = await everything(asking.pieces(transport, CHAT, GenerateResponse))
    assert [piece.response for piece in pieces] == ["a"]
    assert transport.open_now == 0
