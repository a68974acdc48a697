import json
import threading
from typing import Any

import msgspec
import pytest

from foreman.cli import place
from foreman.cli.place import where
from foreman.jobs import JobClass, JobId, State
from foreman.queue_view import QueueView, RunningJob, WaitingCall
from tests.foreman.cli.scripted import Reply, lines
from tests.foreman.cli.terminals import terminal

IDLE = QueueView(None, None, (), (), loads=0, fcfs_loads=0, target_away=False)


def said(*words: str, done: bool = True) -> tuple[bytes, ...]:
    records = [{"message": {"role": "assistant", "content": word}, "done": False} for word in words]
    return lines(*records, *([{"message": {"content": ""}, "done": True}] if done else []))


def test_an_answer_is_streamed_through_the_synchronous_route(foreman: Any, daemon: Any) -> None:
    daemon.replies("POST /api/chat", Reply((b"  ", *said("Hel", "lo."))))  # heartbeats come first
    ran = foreman("chat", "small", "Hi")
    assert (ran.status, ran.out, ran.err) == (0, "Hello.\n", "")
    assert daemon.requests[0].json == {
        "model": "small",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }


def test_json_gives_the_records_and_a_pipe_the_prompt(foreman: Any, daemon: Any) -> None:
    daemon.replies("POST /api/chat", Reply(said("Hi")))
    ran = foreman("chat", "small", "--json", stdin="from a pipe")
    assert [json.loads(line)["done"] for line in ran.out.splitlines()] == [False, True]
    assert daemon.requests[0].json["messages"][0]["content"] == "from a pipe"


@pytest.mark.parametrize(
    ("reply", "status", "message"),
    [
        (Reply((b'{"error":"model \'x\' not found"}',), 404), 1, "model 'x' not found"),
        (Reply((*said("Hi", done=False), b'{"error":"the runner died"}\n')), 5, "the runner died"),
        (Reply(said("Hi", done=False)), 1, "the answer broke off before its end"),
        (Reply(said("Hi", done=False), cut=True), 3, "broke"),
    ],
)
def test_an_answer_that_is_none_is_told_by_the_exit_status(
    foreman: Any, daemon: Any, reply: Reply, status: int, message: str
) -> None:
    daemon.replies("POST /api/chat", reply)
    ran = foreman("chat", "x", "Hi")
    assert ran.status == status
    assert message in ran.err


def test_while_it_waits_its_place_is_said_once_for_each_change(
    foreman: Any, daemon: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(place, "PATIENT_FOR", 0.0)
    monkeypatch.setattr(place, "PERIOD", 0.0)
    go = threading.Event()

    class Shrinking(dict[str, tuple[int, bytes]]):
        """A line that gets shorter by one at each third look."""

        looks = 0

        def get(self, key: str, default: Any = None) -> Any:
            self.looks += 1
            ahead = 3 - self.looks // 3
            if ahead < 1:
                go.set()
            call = WaitingCall(JobId("01C"), "small:latest", max(1, ahead), 0.0)
            return 200, msgspec.json.encode(msgspec.structs.replace(IDLE, calls=(call,)))

    daemon.answers = Shrinking()
    daemon.replies("POST /api/chat", Reply(said("Hi"), after=go))
    ran = foreman("chat", "small", "Hi")
    assert ran.out == "Hi\n"
    assert ran.err == "position 3 in line\nposition 2 in line\nposition 1 in line\n"


def call(identifier: str, model: str, position: int, seconds: float) -> WaitingCall:
    return WaitingCall(JobId(identifier), model, position, seconds)


@pytest.mark.parametrize(
    ("job", "waited", "text"),
    [
        ("01B", 5.0, "position 2 in line"),
        (None, 5.0, "position 3 in line"),
        (None, 9.1, "position 2 in line"),
    ],
)
def test_the_call_is_known_by_its_id_or_by_how_long_it_has_waited(
    job: str | None, waited: float, text: str
) -> None:
    calls = (call("01A", "x:1", 1, 5.0), call("01B", "small:latest", 2, 9.0))
    view = msgspec.structs.replace(IDLE, calls=(*calls, call("01C", "small:latest", 3, 5.1)))
    assert where(view, job, "small", waited) == text
    away = msgspec.structs.replace(view, target_away=True)
    assert where(away, job, "small", waited) == f"{text}, and the target is away"


def test_a_call_that_waits_no_more_runs_or_is_nowhere() -> None:
    run = RunningJob(JobId("01A"), "small:latest", "x", JobClass.INTERACTIVE, State.LOADING, 1.0)
    view = msgspec.structs.replace(IDLE, running=run)
    assert where(view, "01A", "small", 1.0) == "small:latest is loading"
    assert where(view, None, "SMALL", 1.0) == "small:latest is loading"
    assert where(view, "01B", "small", 1.0) == ""
    assert where(view, None, "no:such:name", 1.0) == ""


def test_a_conversation_remembers_and_ends_with_ctrl_d(foreman: Any, daemon: Any) -> None:
    daemon.replies("POST /api/chat", Reply(said("One.")), Reply(said("Two.")))
    with terminal("chat", "small", term="dumb") as chat:
        for prompt, answer in ((b"first\n", b"One."), (b"\n", b"\n"), (b"second\n", b"Two.")):
            chat.until(b">>> ")
            chat.type(prompt)
            chat.until(answer)
        chat.until(b">>> ")
        chat.type(b"\x04")
        chat.rest()
        assert chat.process.wait() == 0
    asked = [each.json["messages"] for each in daemon.requests if each.method == "POST"]
    assert [message["content"] for message in asked[-1]] == ["first", "One.", "second"]
    assert len(asked) == 2
