"""What is believed to be loaded, for how long, and what loads have cost."""

from foreman.jobs import Fingerprint
from foreman.residency import SURE_FOR, Residency

A, B = Fingerprint("a"), Fingerprint("b")


def used(keep_alive: float | None = None) -> Residency:
    residency = Residency()
    residency.loaded(A, 10.0)
    residency.used(A, 100.0, keep_alive)
    return residency


def test_a_model_is_sure_to_be_loaded_for_a_while_after_a_job() -> None:
    residency = used()
    assert residency.is_sure(A, 100 + SURE_FOR - 1)
    assert not residency.is_sure(A, 100 + SURE_FOR)
    assert not residency.is_sure(B, 101)


def test_a_short_keep_alive_ends_the_certainty_and_a_negative_one_does_not() -> None:
    assert not used(keep_alive=0).is_sure(A, 100)
    assert used(keep_alive=5).is_sure(A, 104)
    assert not used(keep_alive=5).is_sure(A, 105)
    assert used(keep_alive=-1).is_sure(A, 100 + SURE_FOR - 1)


def test_a_load_request_that_took_no_time_found_the_model_there() -> None:
    residency = used()
    assert not residency.loaded(A, 0.1)
    assert (residency.loads, residency.costs[A]) == (1, 10.0)
    assert residency.loaded(A, 5.0)
    assert residency.loaded(B, 0.1)
    assert (residency.loads, residency.resident) == (3, B)


def test_an_unloaded_model_is_forgotten_and_another_is_not() -> None:
    residency = used()
    residency.forget("b")
    assert residency.resident == A
    residency.forget("a")
    assert residency.resident is None
    assert not residency.is_sure(A, 101)


def test_what_first_come_first_served_would_have_loaded_is_counted_by_arrivals() -> None:
    residency = Residency()
    for fingerprint in (A, A, B, A, B, B):
        residency.arrived(fingerprint)
    assert residency.fcfs_loads == 4
