from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from foreman.llm import Event, Exhausted, Place, Request, Response, SkipReason, Unreachable
from foreman.llm.chain import Chain
from foreman.llm.choice import Choice
from foreman.llm.deferred import Deferred
from foreman.llm.failover import Failover
from foreman.llm.ordering import cheapest
from foreman.llm.policies import Policy
from foreman.llm.prices import Rates
from foreman.llm.providers.fake import FakeModel, FakeProvider, Say, Status
from foreman.llm.waiting import Queueing, by_waiting

HI = Request.of("Hi")


class Foreman(FakeModel):
    """A queue of which one knows: `starts_in` is its estimate, `takes` what happens."""

    def __init__(self, starts_in: float | None = 0.0, takes: float = 0.0) -> None:
        self.fake = FakeProvider("box", otherwise=Say("from home"))
        super().__init__(self.fake, "m", self.fake.model("m").capabilities)
        self.starts_in = starts_in
        self.takes = takes
        self.late_estimate: float | None = None  # what it thinks after ten seconds
        self.begins_while_withdrawing = False
        self.unreachable = False
        self.silent = False
        self.said: list[str] = []

    async def estimate(self, request: Request) -> Place:
        await anyio.lowlevel.checkpoint()
        if self.silent:
            await anyio.sleep_forever()
        if self.unreachable:
            raise Unreachable("connection refused", target=self.name)
        self.said.append("estimate")
        return Place(1, self.starts_in)

    @asynccontextmanager
    async def submit(self, request: Request) -> AsyncGenerator["Submission"]:
        await anyio.lowlevel.checkpoint()
        self.said.append("submit")
        try:
            async with self.fake.model("m").stream(request) as events:
                submission = Submission(self, events)
                async with aclosing(submission.queue):
                    yield submission
        finally:
            self.said.append("left")


class Submission:
    def __init__(self, foreman: Foreman, events: AsyncIterator[Event]) -> None:
        self.foreman = foreman
        self._events = events
        self.queue = self._places()

    def places(self) -> AsyncIterator[Place]:
        return self.queue

    async def _places(self) -> AsyncGenerator[Place]:
        yield Place(1, self.foreman.starts_in)
        if self.foreman.late_estimate is not None:
            await anyio.sleep(10)
            yield Place(1, self.foreman.late_estimate)
        await anyio.sleep(self.foreman.takes)

    async def withdraw(self) -> bool:
        await anyio.lowlevel.checkpoint()
        self.foreman.said.append("withdraw")
        return not self.foreman.begins_while_withdrawing

    def events(self) -> AsyncIterator[Event]:
        self.foreman.said.append("events")
        return self._events


class Prices:
    def rates(self, target: str) -> Rates | None:
        output = {"box/m": 0.0, "v/dear": 300.0, "v/cheap": 3.0}.get(target)
        return None if output is None else Rates(input=0.0, output=output)


def chain(foreman: Foreman, max_cost: float | None = None) -> tuple[Chain, FakeProvider]:
    vendor = FakeProvider("v", otherwise=Say("from outside"))
    choice = Choice(
        order=by_waiting(40.0, then=cheapest(Prices())),
        always=Policy(max_cost=max_cost),
        prices=Prices(),
    )
    models = [vendor.model("dear"), foreman, vendor.model("cheap")]
    return Chain(models, choice=choice, failover=Failover(retries=0)), vendor


async def test_at_home_when_it_starts_soon(virtual_time: None) -> None:
    foreman = Foreman(starts_in=40.0, takes=39.0)
    model, vendor = chain(foreman)
    answer = await model.complete(HI)
    assert answer.target == "box/m"
    assert vendor.calls == []
    assert foreman.said == ["estimate", "submit", "events", "left"]


async def test_else_the_cheapest_without_ever_joining_the_queue(virtual_time: None) -> None:
    foreman = Foreman(starts_in=41.0)
    model, vendor = chain(foreman)
    answer = await model.complete(HI)
    assert answer.target == "v/cheap"
    assert foreman.said == ["estimate"]
    [skip] = answer.history
    assert str(skip) == "box/m: skipped, would start too late: not within 40 s, again in 41 s"
    assert len(vendor.calls) == 1
    assert model.health["box/m"].snapshot().failures == 0


async def test_when_time_runs_out_it_is_withdrawn_before_anybody_is_called(
    virtual_time: None,
) -> None:
    foreman = Foreman(starts_in=None, takes=1000)
    model, vendor = chain(foreman)
    start = anyio.current_time()
    async with model.stream(HI) as events:
        first = await anext(events)
        assert first.place == Place(1, None)
        assert vendor.calls == []
        rest = [event async for event in events]
    assert anyio.current_time() - start == pytest.approx(40)
    assert foreman.said == ["estimate", "submit", "withdraw", "left"]
    assert rest[-1].response is not None
    assert rest[-1].response.target == "v/cheap"


async def test_it_is_withdrawn_early_when_the_foreman_sees_that_it_will_not_do(
    virtual_time: None,
) -> None:
    foreman = Foreman(starts_in=30.0, takes=1000)
    foreman.late_estimate = 31.0
    model, _ = chain(foreman)
    start = anyio.current_time()
    answer = await model.complete(HI)
    assert answer.target == "v/cheap"
    assert anyio.current_time() - start == pytest.approx(10)


async def test_a_job_that_begins_meanwhile_keeps_its_request(virtual_time: None) -> None:
    foreman = Foreman(starts_in=None, takes=1000)
    foreman.begins_while_withdrawing = True
    model, vendor = chain(foreman)
    answer = await model.complete(HI)
    assert answer.text == "from home"
    assert foreman.said == ["estimate", "submit", "withdraw", "events", "left"]
    assert vendor.calls == []


async def test_never_above_the_price_rather_wait_at_home(virtual_time: None) -> None:
    foreman = Foreman(starts_in=500.0)
    model, vendor = chain(foreman, max_cost=0.0001)
    answer = await model.complete(HI)
    assert answer.target == "box/m"
    assert vendor.calls == []
    reasons = [step.reason for step in answer.history if hasattr(step, "reason")]
    assert reasons == [SkipReason.PRICE, SkipReason.PRICE, SkipReason.WAIT]


async def test_the_dear_one_is_out_and_the_cheap_one_in(virtual_time: None) -> None:
    model, vendor = chain(Foreman(starts_in=500.0), max_cost=0.001)
    vendor.script("cheap", Status(503))
    answer = await model.complete(HI)
    assert answer.target == "box/m"
    assert [call.model for call in vendor.calls] == ["cheap"]


async def test_a_foreman_that_is_away_is_a_failed_call_and_not_asked_twice(
    virtual_time: None,
) -> None:
    foreman = Foreman()
    foreman.unreachable = True
    model, vendor = chain(foreman)
    vendor.otherwise = Status(503)
    with pytest.raises(Exhausted) as caught:
        await model.complete(HI)
    assert [attempt.target for attempt in caught.value.attempts] == ["box/m", "v/cheap", "v/dear"]
    assert model.health["box/m"].snapshot().failures == 1


async def test_a_foreman_that_does_not_answer_has_failed(virtual_time: None) -> None:
    foreman = Foreman()
    foreman.silent = True
    model, _ = chain(foreman)
    answer = await model.complete(HI)
    assert answer.target == "v/cheap"
    assert str(answer.history[0]).startswith("box/m: no word of its queue within 40 s")
    assert model.health["box/m"].snapshot().failures == 1


async def test_leaving_while_it_waits_leaves_the_queue(virtual_time: None) -> None:
    foreman = Foreman(starts_in=None, takes=1000)
    model, vendor = chain(foreman)
    with anyio.move_on_after(5):
        await model.complete(HI)
    assert foreman.said == ["estimate", "submit", "left"]
    assert [str(call.end) for call in foreman.fake.calls] == ["left"]
    assert vendor.calls == []


async def test_without_waiting_at_last_there_is_no_second_try(virtual_time: None) -> None:
    foreman = Foreman(starts_in=500.0)
    model = Chain([foreman], choice=Choice(order=by_waiting(40.0, wait_at_last=False)))
    with pytest.raises(Exhausted, match="would start too late"):
        await model.complete(HI)


async def test_a_foreman_is_known_behind_a_model_that_is_made_later(virtual_time: None) -> None:
    foreman = Foreman(starts_in=500.0)
    assert isinstance(foreman, Queueing)
    later = Deferred("box/m", lambda: foreman)
    model = Chain([later], choice=Choice(order=by_waiting(40.0)))
    answer: Response = await model.complete(HI)
    assert [step.target for step in answer.history] == ["box/m"]
