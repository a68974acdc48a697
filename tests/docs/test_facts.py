"""Figures that pages write out are those of the code."""

import re

from foreman import delivery, endpoints, event_tail, subscription
from foreman.api import event_stream
from foreman.jobs import State
from foreman.wire import ROUTES, Kind
from tests.docs.blocks import REPOSITORY

REFERENCE = REPOSITORY / "docs" / "reference"
EVENTS = (REFERENCE / "events.md").read_text(encoding="utf-8")
WEBHOOKS = (REFERENCE / "webhooks.md").read_text(encoding="utf-8")
SECONDS = {"s": 1, "min": 60, "h": 3600}


def test_the_page_on_webhooks_has_the_schedule() -> None:
    [plan] = re.findall(r"At once, then (.+?) after the failure", WEBHOOKS, re.DOTALL)
    pauses = [float(n) * SECONDS[unit] for n, unit in re.findall(r"(\d+) (s|min|h)\b", plan)]
    assert (0.0, *pauses) == delivery.SCHEDULE


def test_the_page_on_webhooks_has_the_limits() -> None:
    text = " ".join(WEBHOOKS.split())
    assert f"After {delivery.TRIPS_AT} failures in a row" in text
    assert f"left alone for {delivery.FIRST_PAUSE:.0f} s" in text
    assert f"when {endpoints.MAX_PENDING:,} messages wait" in text
    assert f"by {endpoints.LOST_TOO_MANY} dead letters" in text
    assert f"below {delivery.INLINE >> 10} KiB" in text


def test_the_pages_on_events_and_webhooks_have_every_kind_of_event() -> None:
    types = re.findall(r"`job\.(\w+)`", WEBHOOKS)
    assert {*types} >= {str(state) for state in State}
    for route in ROUTES:
        if route.kind is Kind.EVENTS:
            assert f"`GET {route.path}`" in EVENTS


def test_the_page_on_events_has_the_codes_with_which_a_websocket_is_closed() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d{4}) \|", EVENTS, re.MULTILINE)}
    ours = {
        event_stream.NORMAL,
        event_stream.GOING_AWAY,
        event_stream.TRY_AGAIN_LATER,
        event_stream.RESYNC,
    }
    assert listed == ours | {1009, 1011}  # the two that Hypercorn's side gives


def test_the_page_on_events_says_how_far_behind_one_may_be() -> None:
    text = " ".join(EVENTS.split())
    assert f"keeps the last {event_tail.SIZE:,} events" in text
    assert f"more than {subscription.SLACK:,} events behind" in text
