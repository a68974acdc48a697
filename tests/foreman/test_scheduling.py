"""The five rules by example. What holds for any arrival pattern is in tests/sim/test_rules.py."""

from collections.abc import Callable
from math import inf, nextafter

import pytest

from foreman.jobs import Fingerprint, JobClass, JobId
from foreman.scheduling import (
    Decision,
    Idle,
    Lane,
    Limits,
    Rule,
    Run,
    Turn,
    WaitUntil,
    after,
    decide,
)

LLAMA, QWEN, PHI = Fingerprint("llama"), Fingerprint("qwen"), Fingerprint("phi")
LOADS = {LLAMA: 5.0, QWEN: 5.0, PHI: 40.0}
LIMITS = Limits(max_wait=600, linger=15)


def interactive(fingerprint: Fingerprint, arrived: float, served: float | None = None) -> Lane:
    return Lane(fingerprint, JobClass.INTERACTIVE, JobId(f"{arrived:09}"), arrived, served)


def batch(fingerprint: Fingerprint, arrived: float, served: float | None = None) -> Lane:
    return Lane(fingerprint, JobClass.BATCH, JobId(f"{arrived:09}"), arrived, served)


def choose(
    *lanes: Lane,
    resident: Fingerprint | None = LLAMA,
    turn: Turn | None = None,
    now: float = 100.0,
    limits: Limits = LIMITS,
    called: float | None = None,
) -> Decision:
    return decide(lanes, resident, turn, LOADS, now, limits, called)


def test_without_work_the_worker_is_idle() -> None:
    assert choose() == Idle()
    assert choose(called=99.0) == Idle()


# Rule 1


def test_a_turn_won_as_overdue_goes_on_until_it_has_worked_off_its_load() -> None:
    held, overdue = batch(QWEN, 0, served=699), batch(LLAMA, 0)
    for worked_s, rule in [(4.9, Rule.HOLD), (5.0, Rule.OVERDUE)]:
        turn = Turn(held.key, True, load_s=5.0, worked_s=worked_s, jobs=1)
        decision = choose(overdue, held, resident=QWEN, turn=turn, now=700)
        assert decision == Run(held if rule is Rule.HOLD else overdue, rule)


def test_a_turn_won_as_overdue_without_a_load_is_one_job() -> None:
    patient, other = batch(LLAMA, 10), interactive(QWEN, 20)
    turn = after(None, Run(patient, Rule.OVERDUE), 0.0, 0.5)
    assert choose(patient, other, turn=turn) == Run(other, Rule.INTERACTIVE)


@pytest.mark.parametrize("rule", [Rule.INTERACTIVE, Rule.BATCH])
def test_a_turn_won_by_another_rule_is_not_held(rule: Rule) -> None:
    lane, caller = batch(LLAMA, 10), interactive(QWEN, 20)
    turn = after(None, Run(lane, rule), 5.0, 1.0)
    assert choose(lane, caller, turn=turn) == Run(caller, Rule.INTERACTIVE)


def test_a_hold_ends_when_its_lane_runs_dry_or_its_model_is_gone() -> None:
    lane, caller = batch(LLAMA, 10), interactive(QWEN, 20)
    turn = Turn(lane.key, True, load_s=5.0, worked_s=1.0, jobs=1)
    assert choose(lane, caller, turn=turn) == Run(lane, Rule.HOLD)
    assert choose(caller, turn=turn) == Run(caller, Rule.INTERACTIVE)
    assert choose(lane, caller, turn=turn, resident=None) == Run(caller, Rule.INTERACTIVE)


def test_a_hold_is_for_the_lane_and_not_for_its_fingerprint() -> None:
    turn = Turn(batch(LLAMA, 0).key, True, load_s=5.0, worked_s=1.0, jobs=1)
    overdue, same_model = batch(QWEN, 10), interactive(LLAMA, 690)
    assert choose(overdue, same_model, turn=turn, now=700) == Run(overdue, Rule.OVERDUE)


def test_held_runs_add_up_and_a_reload_eats_into_the_hold() -> None:
    lane = batch(LLAMA, 0)
    first = after(None, Run(lane, Rule.OVERDUE), 5.0, 1.0)
    assert first == Turn(lane.key, True, load_s=5.0, worked_s=1.0, jobs=1)
    second = after(first, Run(lane, Rule.HOLD), 0.0, 2.0)
    assert second == Turn(lane.key, True, load_s=5.0, worked_s=3.0, jobs=2)
    third = after(second, Run(lane, Rule.HOLD), 5.0, 2.0)
    assert third == Turn(lane.key, True, load_s=5.0, worked_s=10.0, jobs=3)


def test_a_turn_that_goes_on_by_another_rule_is_never_held_again() -> None:
    lane = batch(LLAMA, 0)
    won = after(None, Run(lane, Rule.OVERDUE), 5.0, 1.0)
    assert after(won, Run(lane, Rule.BATCH), 0.0, 1.0) == Turn(lane.key, False, 5.0, 2.0, 2)


def test_a_new_turn_begins_with_another_lane_and_with_every_overdue_run() -> None:
    lane, other = batch(LLAMA, 0), interactive(LLAMA, 0)
    turn = Turn(lane.key, True, load_s=5.0, worked_s=9.0, jobs=4)
    assert after(turn, Run(other, Rule.INTERACTIVE), 0.0, 2.0) == Turn(other.key, False, 0, 2, 1)
    assert after(turn, Run(lane, Rule.OVERDUE), 3.0, 2.0) == Turn(lane.key, True, 3, 2, 1)


# Rule 2


def test_a_lane_is_overdue_from_the_end_of_max_wait() -> None:
    patient, caller = batch(QWEN, 0), interactive(LLAMA, 590)
    early = choose(patient, caller, now=nextafter(600.0, 0.0))
    assert early == Run(caller, Rule.INTERACTIVE)
    assert choose(patient, caller, now=600) == Run(patient, Rule.OVERDUE)


def test_patience_counts_from_the_last_service_where_that_is_later() -> None:
    drained, other = batch(LLAMA, 0, served=5000), batch(QWEN, 4500)
    assert choose(drained, other, now=5000) == Run(drained, Rule.BATCH)
    assert choose(drained, other, now=5100) == Run(other, Rule.OVERDUE)
    fresh = batch(QWEN, 4600, served=10)
    assert choose(drained, fresh, now=5100) == Run(drained, Rule.BATCH)


def test_the_longest_overdue_goes_first() -> None:
    older, newer = batch(PHI, 0, served=30), interactive(QWEN, 40, served=20)
    assert choose(newer, older, now=700) == Run(older, Rule.OVERDUE)


def test_newer_jobs_of_higher_priority_do_not_put_off_rule_2() -> None:
    urgent = Lane(QWEN, JobClass.BATCH, JobId("urgent"), 590, oldest_arrived=0)
    caller = interactive(LLAMA, 595)
    assert choose(urgent, caller, now=600) == Run(urgent, Rule.OVERDUE)
    served = Lane(QWEN, JobClass.BATCH, JobId("urgent"), 590, last_served=300, oldest_arrived=0)
    assert choose(served, caller, now=600) == Run(caller, Rule.INTERACTIVE)


def test_max_wait_can_be_switched_off() -> None:
    patient, drained = batch(QWEN, 0), batch(LLAMA, 1e6)
    assert choose(patient, drained, now=1e9, limits=Limits(inf, 15)) == Run(drained, Rule.BATCH)


# Rules 3 and 5


@pytest.mark.parametrize("lane", [interactive, batch])
def test_the_resident_model_goes_first_and_then_the_oldest_head(
    lane: Callable[[Fingerprint, float], Lane],
) -> None:
    home, old, new = lane(LLAMA, 60), lane(PHI, 40), lane(QWEN, 50)
    rule = Rule(home.job_class)
    assert choose(new, old, home) == Run(home, rule)
    assert choose(new, old) == Run(old, rule)
    assert choose(home, new, old, resident=None) == Run(old, rule)


def test_interactive_goes_before_batch_even_at_the_price_of_a_load() -> None:
    caller = interactive(QWEN, 90)
    assert choose(batch(LLAMA, 10), batch(QWEN, 0), caller) == Run(caller, Rule.INTERACTIVE)


# Rule 4


def test_a_swap_to_batch_waits_for_the_next_call_as_long_as_a_load_takes() -> None:
    work = batch(QWEN, 50)
    assert choose(work, called=98.0) == WaitUntil(103.0, LLAMA)
    assert choose(work, called=98.0, now=103) == Run(work, Rule.BATCH)


def test_linger_is_capped_and_zero_switches_it_off() -> None:
    work = batch(QWEN, 50)
    assert choose(work, resident=PHI, called=98.0) == WaitUntil(113.0, PHI)
    off = choose(work, resident=PHI, called=100.0, limits=Limits(600, 0))
    assert off == Run(work, Rule.BATCH)


def test_nothing_is_lingered_for_without_a_call_a_known_load_or_a_resident_model() -> None:
    work = batch(QWEN, 50)
    assert choose(work) == Run(work, Rule.BATCH)
    assert choose(work, resident=Fingerprint("new"), called=99.0) == Run(work, Rule.BATCH)
    assert choose(work, resident=None, called=99.0) == Run(work, Rule.BATCH)


def test_lingering_delays_neither_the_resident_model_nor_another_caller() -> None:
    home, work, caller = batch(LLAMA, 60), batch(QWEN, 50), interactive(QWEN, 99)
    assert choose(work, home, called=99.0) == Run(home, Rule.BATCH)
    assert choose(work, caller, called=99.0) == Run(caller, Rule.INTERACTIVE)


def test_lingering_ends_when_a_lane_becomes_overdue() -> None:
    work, patient = batch(QWEN, 50), batch(PHI, 2)
    assert choose(work, patient, called=599.0, now=600) == WaitUntil(602.0, LLAMA)
    assert choose(work, patient, called=599.0, now=602) == Run(patient, Rule.OVERDUE)
