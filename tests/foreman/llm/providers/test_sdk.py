from types import ModuleType

import anthropic
import httpx2
import openai
import pytest

from foreman.llm import InvalidResponse, ServerError, TimedOut, Unreachable
from foreman.llm.dsn import Secret
from foreman.llm.providers import anthropic_response, openai_response
from foreman.llm.providers.sdk import Refusal, Vendor, unsent

ASKED = httpx2.Request("POST", "http://127.0.0.1:1")
both = pytest.mark.parametrize(
    ("sdk", "refusal"),
    [(openai, openai_response.refusal), (anthropic, anthropic_response.refusal)],
)


@both
def test_an_sdks_error_is_the_cause_of_ours(sdk: ModuleType, refusal: Refusal) -> None:
    vendor = Vendor(sdk, refusal, Secret("s3cret"))
    answered = httpx2.Response(500, request=ASKED)
    table = [
        (sdk.APITimeoutError(request=ASKED), TimedOut),
        (sdk.APIConnectionError(request=ASKED), Unreachable),
        (sdk.InternalServerError("s3cret", response=answered, body=None), ServerError),
        (sdk.APIResponseValidationError(answered, "s3cret"), InvalidResponse),
    ]

    for error, kind in table:
        with pytest.raises(kind) as failed, vendor.translated("box/m"):
            raise error
        assert failed.value.__cause__ is error
        assert "s3cret" not in f"{failed.value}{error}"


@both
def test_what_is_no_error_of_the_sdk_passes_as_it_is(sdk: ModuleType, refusal: Refusal) -> None:
    with pytest.raises(ZeroDivisionError), Vendor(sdk, refusal, None).translated("box/m"):
        raise ZeroDivisionError


def test_headers_in_the_environment_are_known_by_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADERS", "X-One: 1\nno header\nX-Two: a:b")

    assert unsent("HEADERS") == ["X-One", "X-Two"]
    assert unsent("NO_HEADERS") == []
