"""The waiting calls: order within a lane, order of the lanes, places."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from foreman.jobs import Fingerprint, JobId
from foreman.lanes import CallLanes

A, B, C = (Fingerprint(name) for name in "abc")


@dataclass(frozen=True)
class Call:
    job: JobId
    fingerprint: Fingerprint
    arrived: float


def lanes(*models: Fingerprint) -> CallLanes[Call]:
    """One call of each model, a second after the other; their ids are 0, 1, 2..."""
    found = CallLanes[Call]()
    for n, model in enumerate(models):
        found.add(Call(JobId(str(n)), model, n))
    return found


def order(calls: CallLanes[Call], first: Fingerprint | None = None) -> list[str]:
    return [call.job for lane in calls.order(first) for call in lane]


def test_calls_of_one_model_stand_together_in_the_order_of_their_arrival() -> None:
    assert order(lanes(A, B, A, B)) == ["0", "2", "1", "3"]


def test_the_loaded_model_goes_first() -> None:
    assert order(lanes(A, B, A, B), first=B) == ["1", "3", "0", "2"]


def test_lanes_whose_heads_came_together_keep_their_order() -> None:
    calls = CallLanes[Call]()
    for n, model in enumerate((A, B)):
        calls.add(Call(JobId(str(n)), model, 5.0))
    assert [calls.ahead_of(JobId(job), None) for job in order(calls)] == [0, 1]


def test_only_the_first_of_each_lane_may_run() -> None:
    assert [call.job for call in lanes(A, B, A, C).heads()] == ["0", "1", "3"]


def test_a_call_that_leaves_is_gone_and_its_empty_lane_with_it() -> None:
    calls = lanes(A, B)
    removed = calls.remove(JobId("0"))
    assert removed is not None
    assert calls.remove(JobId("0")) is None
    assert calls.find(JobId("0")) is None
    assert order(calls) == ["1"]
    assert len(calls) == 1


@given(
    st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=12),
    st.sampled_from([A, B, C, None]),
    st.sets(st.integers(0, 11)),
)
def test_a_calls_place_is_where_the_order_has_it(
    models: list[Fingerprint], first: Fingerprint | None, gone: set[int]
) -> None:
    calls = lanes(*models)
    for each in gone:
        calls.remove(JobId(str(each)))
    for place, job in enumerate(order(calls, first)):
        assert calls.ahead_of(JobId(job), first) == place
