import pytest

from foreman.client import working
from foreman.client.answers import ChatResponse
from foreman.client.errors import Damaged, JobFailed, Unreachable, WaitTimeout
from foreman.client.working import PAGE, POLL
from foreman.jobs import JobClass, State
from tests.fakes.transport import ScriptedTransport, away, everything, job, says

CHAT = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True}


async def test_a_job_is_typed() -> None:
    view = job(state="queued", position=3, labels={"a": "b"}, webhook={"url": "http://x"})
    found = await working.get(ScriptedTransport(says(view)), "J1")
    assert (found.state, found.job_class, found.position) == (State.QUEUED, JobClass.BATCH, 3)
    assert not found.ended
    assert found.webhook is not None
    assert found.created_at.tzinfo is not None


async def test_waiting_asks_until_the_job_has_ended() -> None:
    transport = ScriptedTransport(
        says(job(state="queued")), says(job(state="working")), says(job())
    )
    assert (await working.wait(transport, "J1", None)).ended
    assert transport.paths == [f"/jobs/J1/wait?timeout={POLL:g}"] * 3


async def test_waiting_survives_a_daemon_that_is_away_for_a_time() -> None:
    transport = ScriptedTransport(
        says(job(state="queued")), away(sent=True), away(), says(job(state="failed"))
    )
    assert (await working.wait(transport, "J1", None)).state is State.FAILED


async def test_waiting_ends_in_time_with_the_job_as_it_stands() -> None:
    transport = ScriptedTransport(says(job(state="working")))
    with pytest.raises(WaitTimeout, match="still working after 0 s") as caught:
        await working.wait(transport, "J1", 0)
    assert caught.value.job.state is State.WORKING
    assert transport.paths == ["/jobs/J1/wait?timeout=0"]


async def test_waiting_for_an_absent_daemon_ends_in_time_too() -> None:
    transport = ScriptedTransport(answer=lambda request: away(), patience=1000)
    with pytest.raises(Unreachable):
        await working.wait(transport, "J1", 2)
    assert sum(transport.slept) <= 2


async def test_a_result_has_its_endpoints_type_or_the_one_asked_for() -> None:
    view = job(result=CHAT)
    answer = await working.result(ScriptedTransport(says(view)), "J1", None, None)
    assert isinstance(answer, ChatResponse)
    plain = await working.result(ScriptedTransport(says(view)), "J1", dict, None)
    assert plain == CHAT


async def test_a_result_of_another_endpoint_is_plain() -> None:
    view = job(endpoint="/v1/chat/completions", result={"choices": []})
    answer = await working.result(ScriptedTransport(says(view)), "J1", None, None)
    assert answer == {"choices": []}


async def test_a_result_of_another_type_is_damaged() -> None:
    with pytest.raises(Damaged):
        await working.result(ScriptedTransport(says(job(result=[1]))), "J1", None, None)


async def test_a_failed_jobs_result_is_its_error() -> None:
    view = job(state="failed", error={"code": "target_refused", "message": "too long"})
    with pytest.raises(JobFailed, match="job J1 failed: target_refused: too long") as caught:
        await working.result(ScriptedTransport(says(view)), "J1", None, None)
    assert (caught.value.code, caught.value.message) == ("target_refused", "too long")
    assert caught.value.job.id == "J1"


async def test_a_job_may_be_named_by_its_id_and_cannot_leave_its_path() -> None:
    transport = ScriptedTransport(says(job()))
    await working.get(transport, "../queue?x")
    assert transport.paths == ["/jobs/..%2Fqueue%3Fx"]


async def test_cancelling_is_a_delete() -> None:
    transport = ScriptedTransport(says(job(state="failed", error={"code": "cancelled"})))
    found = await working.cancel(transport, "J1")
    assert transport.asked[0].method == "DELETE"
    assert found.error is not None


async def test_jobs_come_page_after_page() -> None:
    transport = ScriptedTransport(
        says({"jobs": [job("J3"), job("J2")], "next": "J2"}), says({"jobs": [job("J1")]})
    )
    found = await everything(working.listed(transport, {"state": State.DONE, "job_class": "batch"}))
    assert [each.id for each in found] == ["J3", "J2", "J1"]
    query = f"state=done&class=batch&limit={PAGE}"
    assert transport.paths == [f"/jobs?{query}", f"/jobs?{query}&before=J2"]
