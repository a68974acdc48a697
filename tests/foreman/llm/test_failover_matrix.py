"""The failover matrix, row by row: threshold 2, one retry, a pause of 10 s that doubles to 60."""

import pytest

from foreman.breaker import Verdict
from foreman.llm import CallError, Exhausted, ModelNotFound, Request, SkipReason, Unauthorized
from foreman.llm.chain import Chain
from foreman.llm.classification import Advance, Classifier, Retry, Treatment, classify
from foreman.llm.errors import LLMError, ServerError
from foreman.llm.failover import CHAIN, Failover
from foreman.llm.health import Breaking, Health
from foreman.llm.providers.fake import Clock, Cut, FakeProvider, Outcome, Say, Status
from foreman.llm.registry import Registry

HI = Request.of("Hi")
DOWN = Status(503)
OK = Say("ok")
ROW = Breaking(threshold=2, cooldown=10.0, factor=2.0, cap=60.0)


class Rig:
    """A chain over scripted models; what is called is `made`."""

    def __init__(
        self,
        failover: Failover = CHAIN,
        classifier: Classifier = classify,
        **scripts: list[Outcome],
    ) -> None:
        self.clock = Clock()
        self.fake = FakeProvider("p", models=scripts, otherwise=OK, sleep=self.clock.sleep)
        self.health = Health(ROW, clock=self.clock)
        self.chain = Chain(
            [self.fake.model(name) for name in scripts],
            health=self.health,
            failover=failover,
            classifier=classifier,
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    async def ask(self) -> str:
        """Who answered."""
        return (await self.chain.complete(HI)).target

    async def fails(self) -> LLMError:
        with pytest.raises(LLMError) as caught:
            await self.chain.complete(HI)
        return caught.value

    def made(self) -> dict[str, int]:
        names = dict.fromkeys(call.model for call in self.fake.calls)
        return {name: self.fake.made(name) for name in names}

    def retry_in(self, model: str) -> float:
        return self.health[f"p/{model}"].retry_in


async def test_row_1_a_transient_error_is_retried_on_the_same_target() -> None:
    rig = Rig(A=[DOWN, OK], B=[])
    assert await rig.ask() == "p/A"
    assert rig.made() == {"A": 2}
    assert rig.health["p/A"].snapshot().failures == 0


async def test_rows_2_and_3_repeated_ones_bench_it_and_it_is_skipped() -> None:
    rig = Rig(A=[DOWN, DOWN], B=[])
    assert await rig.ask() == "p/B"
    assert rig.made() == {"A": 2, "B": 1}
    assert await rig.ask() == "p/B"
    assert rig.made() == {"A": 2, "B": 2}


async def test_rows_4_and_5_the_pause_ends_and_a_success_resets_all() -> None:
    rig = Rig(A=[DOWN, DOWN, OK, DOWN, DOWN], B=[])
    await rig.ask()
    rig.clock.advance(9.9)
    assert await rig.ask() == "p/B"
    rig.clock.advance(0.1)
    assert await rig.ask() == "p/A"
    assert rig.health["p/A"].snapshot().failures == 0
    assert await rig.ask() == "p/B"
    assert rig.retry_in("A") == pytest.approx(10)


async def test_row_6_each_failed_probe_doubles_the_pause_up_to_the_cap() -> None:
    rig = Rig(A=[DOWN] * 9, B=[])
    await rig.ask()
    for pause in (20, 40, 60, 60):
        rig.clock.advance(rig.retry_in("A"))
        before = rig.fake.made("A")
        assert await rig.ask() == "p/B"
        assert rig.fake.made("A") == before + 1  # one failed probe is enough
        assert rig.retry_in("A") == pytest.approx(pause)


async def test_row_7_an_alias_is_expanded_in_its_place() -> None:
    script: dict[str, list[Outcome]] = {"X": [DOWN] * 2, "B": [DOWN] * 2, "C": [OK]}
    fake = FakeProvider("p", models=script)
    registry = Registry(environ={}, breaking=ROW)
    registry.register(fake)
    registry.alias("fast", ["p/B", "p/C"])
    response = await registry.model("p/X, fast").complete(HI)
    assert response.target == "p/C"
    assert [call.model for call in fake.calls] == ["X", "X", "B", "B", "C"]


async def test_row_8_a_refused_key_fails_fast() -> None:
    rig = Rig(A=[Status(401)], B=[])
    error = await rig.fails()
    assert isinstance(error, Unauthorized)
    assert rig.made() == {"A": 1}
    assert [attempt.target for attempt in error.attempts] == ["p/A"]


async def test_row_9_unless_the_chain_advances_on_permanent_errors() -> None:
    rig = Rig(Failover(advance_on_permanent=True), A=[Status(401)], B=[])
    assert await rig.ask() == "p/B"
    assert rig.made() == {"A": 1, "B": 1}


async def test_row_10_a_target_without_the_model_is_left_but_not_benched() -> None:
    rig = Rig(A=[Status(404)] * 5, B=[])
    for _ in range(5):
        assert await rig.ask() == "p/B"
    assert rig.made() == {"A": 5, "B": 5}
    assert rig.health["p/A"].snapshot().failures == 0


async def test_row_11_without_retries_the_next_is_called_at_once() -> None:
    rig = Rig(Failover(retries=0), A=[DOWN], B=[])
    assert await rig.ask() == "p/B"
    assert rig.made() == {"A": 1, "B": 1}


async def test_row_12_being_benched_stops_the_retries() -> None:
    rig = Rig(Failover(retries=5), A=[DOWN] * 9, B=[])
    assert await rig.ask() == "p/B"
    assert rig.made() == {"A": 2, "B": 1}


async def test_row_13_the_joined_error_lists_attempts_and_skips() -> None:
    rig = Rig(A=[DOWN] * 2, B=[OK, DOWN, DOWN])
    await rig.ask()
    error = await rig.fails()
    assert isinstance(error, Exhausted)
    assert [attempt.target for attempt in error.attempts] == ["p/B", "p/B"]
    assert [(skip.target, skip.reason) for skip in error.skips] == [
        ("p/A", SkipReason.COOLING_DOWN)
    ]
    assert "p/A: skipped, cooling down, again in 10 s" in str(error)
    assert str(error).count("p/B: scripted failure") == 2
    assert error.retry_after == pytest.approx(10)


async def test_row_14_a_classifier_may_call_anything_permanent() -> None:
    def strict(error: CallError, begun: bool) -> Treatment:
        return Treatment(Retry.NO, Advance.NO, Verdict.ALIVE)

    rig = Rig(classifier=strict, A=[DOWN], B=[])
    assert isinstance(await rig.fails(), ServerError)
    assert rig.made() == {"A": 1}


async def test_row_15_a_chain_of_one_is_no_different() -> None:
    rig = Rig(A=[DOWN, OK])
    assert await rig.ask() == "p/A"
    rig = Rig(A=[DOWN, DOWN])
    error = await rig.fails()
    assert isinstance(error, Exhausted)
    assert len(error.attempts) == 2


async def test_row_16_overloaded_is_transient() -> None:
    rig = Rig(A=[Status(529)] * 2, B=[])
    assert await rig.ask() == "p/B"
    assert rig.made() == {"A": 2, "B": 1}


async def test_row_17_all_benched_is_an_error_without_a_call() -> None:
    rig = Rig(A=[DOWN] * 2, B=[DOWN] * 2)
    await rig.fails()
    rig.clock.advance(4)
    error = await rig.fails()
    assert isinstance(error, Exhausted)
    assert rig.made() == {"A": 2, "B": 2}
    assert error.attempts == ()
    assert error.retry_after == pytest.approx(6)


async def test_row_18_a_stream_that_has_begun_is_not_started_anew() -> None:
    rig = Rig(A=[Cut(after_tokens=2)], B=[])
    seen: list[str] = []
    with pytest.raises(LLMError) as caught:
        async with rig.chain.stream(HI) as events:
            async for event in events:
                seen.append(event.delta)
    assert len(seen) == 2
    assert rig.made() == {"A": 1}
    assert [attempt.target for attempt in caught.value.attempts] == ["p/A"]
    assert rig.health["p/A"].snapshot().failures == 1


@pytest.mark.parametrize("failure", [DOWN, Cut(0), ModelNotFound("gone")])
async def test_row_19_a_stream_that_fails_before_is(failure: Outcome) -> None:
    rig = Rig(Failover(retries=0), A=[failure], B=[])
    async with rig.chain.stream(HI) as events:
        last = [event async for event in events][-1]
    assert last.response is not None
    assert last.response.target == "p/B"
    assert [step.target for step in last.response.history] == ["p/A"]
    assert rig.made() == {"A": 1, "B": 1}
