"""The table of routes: who finds what."""

import pytest

from foreman.wire import ROUTES, Dialect, Kind, Route, route_for, routes_at


def test_no_two_rows_answer_the_same_method_and_path() -> None:
    seen = [(method, route.path) for route in ROUTES for method in route.methods]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_row_is_found_by_each_of_its_methods(route: Route) -> None:
    path = route.path.replace("{", "").replace("}", "")
    for method in route.methods:
        assert route_for(method, path) is route


@pytest.mark.parametrize(
    "path", ["/api", "/api/chat/", "/api/chat/x", "/v1/models/", "/API/CHAT", "", "/jobs/a/b"]
)
def test_what_is_not_in_the_table_is_not_found(path: str) -> None:
    assert routes_at(path) == ()


def test_a_path_may_have_a_row_for_each_kind_of_method() -> None:
    kinds = {route.kind for route in routes_at("/api/blobs/sha256:0")}
    assert kinds == {Kind.METADATA, Kind.ADMIN}
    assert route_for("GET", "/api/blobs/sha256:0") is None


def test_only_native_chat_and_generate_stream_unasked() -> None:
    unasked = {route.path for route in ROUTES if route.streams_by_default}
    assert unasked == {"/api/chat", "/api/generate"}


def test_the_dialect_goes_with_the_path() -> None:
    for route in ROUTES:
        anthropic = route.path.startswith("/v1/messages")
        openai = route.path.startswith("/v1/") and not anthropic
        assert (route.dialect is Dialect.ANTHROPIC) == anthropic
        assert (route.dialect is Dialect.OPENAI) == openai
