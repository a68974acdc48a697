"""Whatever targets do: each call is an attempt or the answer, each other candidate one skip."""

from hypothesis import given, settings
from hypothesis import strategies as st

from foreman.llm import Exhausted, LLMError, Request, Response
from foreman.llm.attempts import Attempt, Skip, Step
from foreman.llm.chain import Chain
from foreman.llm.failover import Failover
from foreman.llm.health import Breaking, Health
from foreman.llm.model import whole
from foreman.llm.providers.fake import (
    Clock,
    Cut,
    EndEarly,
    FakeProvider,
    Outcome,
    Refuse,
    Say,
    Status,
)
from tests.foreman.llm.loops import run

HI = Request.of("Hi")

statuses = st.sampled_from([400, 401, 404, 413, 429, 500, 501, 503, 529])
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Say("ok")),
    st.builds(Status, statuses, retry_after=st.none() | st.integers(0, 20)),
    st.builds(Cut, st.integers(0, 2)),
    st.builds(EndEarly, st.integers(0, 1)),
    st.just(Refuse()),
)
scripts = st.lists(st.lists(outcomes, max_size=8), min_size=1, max_size=4)
failovers = st.builds(
    Failover,
    retries=st.integers(0, 3),
    fallback_retries=st.none() | st.integers(0, 2),
    backoff=st.sampled_from([(), (1.0, 2.0)]),
    targets=st.none() | st.integers(1, 3),
    advance_on_permanent=st.booleans(),
    probe_first=st.booleans(),
)


async def outcome(
    chain: Chain, streamed: bool
) -> tuple[tuple[Step, ...], Response | None, LLMError | None]:
    try:
        response = await (whole(chain.stream(HI)) if streamed else chain.complete(HI))
    except LLMError as error:
        return error.history, None, error
    return response.history, response, None


async def play(
    script: list[list[Outcome]], failover: Failover, requests: list[tuple[bool, int]]
) -> None:
    clock = Clock()
    models = {str(number): each for number, each in enumerate(script)}
    fake = FakeProvider("p", models=models, sleep=clock.sleep)
    health = Health(Breaking(threshold=2, cooldown=5, cap=20), clock=clock)
    chain = Chain(
        [fake.model(name) for name in models],
        failover=failover,
        health=health,
        clock=clock,
        sleep=clock.sleep,
    )
    for streamed, pause in requests:
        clock.advance(pause)
        before = len(fake.calls)
        benched = {target.name for target in health if target.retry_in > 0}
        history, response, error = await outcome(chain, streamed)
        assert {f"p/{call.model}" for call in fake.calls[before : before + 1]}.isdisjoint(benched)
        calls = [f"p/{call.model}" for call in fake.calls[before:]]
        attempts = [step.target for step in history if isinstance(step, Attempt)]
        skips = [step.target for step in history if isinstance(step, Skip)]
        assert attempts == (calls if response is None else calls[:-1])
        assert len({*skips}) == len(skips)
        assert {*skips}.isdisjoint(calls)
        if response is not None:
            assert response.target == calls[-1]
        if isinstance(error, Exhausted) and failover.targets is None:
            assert {*skips, *attempts} == {*chain.targets}
        assert not any(target.probing for target in health)


@settings(max_examples=120, deadline=None)
@given(scripts, failovers, st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=6))
def test_every_call_and_every_skip_is_accounted_for_once(
    script: list[list[Outcome]], failover: Failover, requests: list[tuple[bool, int]]
) -> None:
    run(lambda: play(script, failover, [*requests, (False, 0)]))
