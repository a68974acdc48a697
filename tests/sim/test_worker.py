"""The simulator itself, by hand; then what the policy is for."""

import random

from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.scheduling import Limits, Rule
from tests.sim.worker import Call, by_rules, first_come_first_served, lower_bound, simulate

LLAMA, QWEN = Fingerprint("llama"), Fingerprint("qwen")
LOADS = {LLAMA: 5.0, QWEN: 7.0}


def test_first_come_first_served_pays_a_load_for_every_change_of_model() -> None:
    calls = [Call(0, LLAMA, 1), Call(0, QWEN, 1), Call(0, LLAMA, 1)]
    trace = simulate(calls, LOADS, first_come_first_served)
    assert [attempt.ended for attempt in trace.attempts] == [6, 14, 20]
    assert (trace.loads, trace.load_s, trace.makespan, trace.idle_s) == (3, 17, 20, 0)
    assert trace.waits == {"000000": 0, "000001": 6, "000002": 14}


def test_the_rules_drain_a_model_before_they_load_the_next() -> None:
    calls = [Call(0, LLAMA, 1), Call(0, QWEN, 1), Call(0, LLAMA, 1)]
    trace = simulate(calls, LOADS, by_rules(Limits()))
    assert (trace.loads, trace.makespan) == (2, 15)
    assert lower_bound(calls, LOADS) == 15


def test_a_failed_attempt_goes_back_to_its_place() -> None:
    calls = [Call(0, LLAMA, 1, failures=1), Call(0, LLAMA, 1, priority=-1)]
    trace = simulate(calls, LOADS, by_rules(Limits()))
    assert [attempt.job.id for attempt in trace.attempts] == ["000000", "000000", "000001"]


def test_an_evicted_model_is_loaded_again() -> None:
    trace = simulate([Call(0, LLAMA, 1), Call(9, LLAMA, 1)], LOADS, by_rules(Limits()), None, [8])
    assert (trace.loads, trace.evictions, trace.makespan) == (2, [LLAMA], 15)


def test_a_caller_who_comes_back_in_time_finds_the_model_loaded() -> None:
    chat = JobClass.INTERACTIVE
    calls = [Call(0, LLAMA, 1, chat), Call(0, QWEN, 1), Call(10, LLAMA, 1, chat)]
    lingering = simulate(calls, LOADS, by_rules(Limits(linger=15)))
    assert [attempt.decided for attempt in lingering.attempts] == [0, 10, 16]
    hasty = simulate(calls, LOADS, by_rules(Limits(linger=0)))
    assert [attempt.decided for attempt in hasty.attempts] == [0, 6, 14]


def test_an_endless_stream_of_one_model_does_not_starve_another() -> None:
    stream = [Call(n, LLAMA, 1, JobClass.INTERACTIVE) for n in range(2000)]
    trace = simulate([*stream, Call(1, QWEN, 1)], LOADS, by_rules(Limits(max_wait=600)))
    assert trace.waits[JobId("000002")] == 600
    assert [attempt.rule for attempt in trace.attempts].count(Rule.OVERDUE) == 1


def test_two_hundred_calls_over_four_models_cost_four_loads() -> None:
    models = [Fingerprint(f"model-{n}") for n in range(4)]
    loads = dict.fromkeys(models, 5.0)
    draw = random.Random(20)
    calls = [Call(0, draw.choice(models), 1, JobClass.INTERACTIVE) for _ in range(200)]
    foreman = simulate(calls, loads, by_rules(Limits()))
    without = simulate(calls, loads, first_come_first_served)
    assert foreman.loads == 4
    assert foreman.makespan == lower_bound(calls, loads) == 220
    assert without.makespan > 4 * foreman.makespan
