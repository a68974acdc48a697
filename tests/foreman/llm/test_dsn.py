import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreman.llm import SpecError
from foreman.llm.dsn import DSN, Secret, expand


def token(dsn: DSN) -> str | None:
    return None if dsn.token is None else dsn.token.reveal()


@pytest.mark.parametrize(
    ("text", "url", "secret"),
    [
        ("foreman://token@host", "http://host:8080", "token"),
        ("ollama://h:11434", "http://h:11434", None),
        ("ollama://h", "http://h:11434", None),
        ("openai://sk@h/v1", "https://h/v1", "sk"),
        ("openai://sk@h/v1/", "https://h/v1", "sk"),
        ("openai+http://h:1234/v1", "http://h:1234/v1", None),
        ("foreman://a%2Fb%40c@h", "http://h:8080", "a/b@c"),
        ("foreman://t@[::1]:8080", "http://[::1]:8080", "t"),
        ("foreman+https://t@box", "https://box:8080", "t"),
        ("OLLAMA+HTTPS://Box/a", "https://box:11434/a", None),
        ("anthropic://sk@", "", "sk"),
        ("anthropic://", "", None),
        ("foreman://user:pass@h", "http://h:8080", "user:pass"),
        ("foreman://t@x@h", "http://h:8080", "t@x"),
    ],
)
def test_a_dsn_says_where_and_with_what(text: str, url: str, secret: str | None) -> None:
    dsn = DSN.parse("x", text)
    assert (dsn.url, token(dsn)) == (url, secret)
    assert dsn.scheme == text.partition("://")[0].lower().partition("+")[0]


def test_options_are_the_query_and_their_values_stay_out_of_sight() -> None:
    dsn = DSN.parse("x", "ollama://h?keep_alive=1h&num_ctx=8192")
    assert dsn.options == {"keep_alive": "1h", "num_ctx": "8192"}
    assert "1h" not in repr(dsn)


def test_variables_are_taken_as_they_are() -> None:
    environ = {"KEY": "a/b@c%40", "BOX": "box"}
    dsn = DSN.parse("x", "foreman://pre-${KEY}@${BOX}:1", environ)
    assert (dsn.url, token(dsn)) == ("http://box:1", "pre-a/b@c%40")
    assert expand("a${V}b${W}$X", "x", {"V": "1", "W": "2"}) == "a1b2$X"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("foreman://${MISSING}@h", "provider 'x': the variable MISSING is not set"),
        ("foreman://${@h", "provider 'x': a ${ is never closed"),
        ("foreman://${}@h", "provider 'x': ${} names no variable"),
        ("hunter2", "provider 'x': write scheme://token@host:port"),
        ("foreman://hunter2@h:70000", "provider 'x': write the host as"),
        ("foreman://hunter2@h:port", "provider 'x': write the host as"),
        ("foreman://hunter2@", "provider 'x': there is no host in its address"),
        ("openai://hunter2@:80", "provider 'x': there is no host in its address"),
        ("anthropic://hunter2", "provider 'x': write an @ behind its token"),
        ("openai://hunter2@/v1", "provider 'x': a path needs a host"),
        ("foreman://hun/ter2@h", "provider 'x': write %2F for /"),
        ("foreman://hun?ter2@h", "provider 'x': write %2F for /"),
        ("foreman://hun#ter2@h", "provider 'x': write scheme://token@host:port"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(text: str, wrong: str) -> None:
    with pytest.raises(SpecError) as caught:
        DSN.parse("x", text)
    assert str(caught.value).startswith(wrong)
    assert "ter2" not in "".join(traceback.format_exception(caught.value))


secrets = st.text(min_size=1).filter(lambda text: "REDACTED" not in f"[{text}]" and len(text) > 3)


@given(secrets)
def test_a_secret_shows_in_no_text(text: str) -> None:
    dsn = DSN("name", "scheme", "", Secret(text))
    shown = f"{dsn} {dsn!r} {dsn.token} {dsn.token!r}"
    assert text not in shown or text in "DSN('name', 'scheme', '', token=[REDACTED]) Secret"


@pytest.mark.parametrize(
    ("text", "hint"),
    [("cashuABCDE", "cashuA...***"), ("123456789", "[REDACTED]"), ("1234567890", "123456...***")],
)
def test_a_listing_shows_the_first_six_characters_of_a_long_secret(text: str, hint: str) -> None:
    assert Secret(text).hint == hint


def test_secrets_compare_by_what_they_are() -> None:
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
