"""What a receiver checks with the reference library, it accepts."""

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from foreman.signing import Signer, parse_secret

BODY = '{"type":"job.done","data":{"model":"größe"}}'.encode()
OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 64).decode()


def sent(signer: Signer, moment: int | None = None) -> dict[str, str]:
    at = int(time.time()) if moment is None else moment
    return dict(signer.headers("msg_01J", at, BODY))


@pytest.mark.parametrize("secret", [OLD, NEW, OLD.rstrip("="), f" {NEW} "])
def test_the_reference_library_accepts_a_signature(secret: str) -> None:
    headers = sent(Signer([secret]))
    assert Webhook(secret.strip()).verify(BODY, headers) == {
        "type": "job.done",
        "data": {"model": "größe"},
    }


def test_while_a_secret_is_replaced_receivers_with_either_one_accept() -> None:
    headers = sent(Signer([NEW, OLD]))
    for secret in (NEW, OLD):
        Webhook(secret).verify(BODY, headers)
    new_only = sent(Signer([NEW]), int(headers["webhook-timestamp"]))
    assert headers["webhook-signature"].split(" ")[0] == new_only["webhook-signature"]


@pytest.mark.parametrize("part", ["webhook-id", "webhook-timestamp"])
def test_what_is_changed_on_the_way_is_noticed(part: str) -> None:
    headers = sent(Signer([NEW]))
    headers[part] = headers[part][:-1] + ("1" if headers[part][-1] == "0" else "0")
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(BODY, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(BODY + b" ", sent(Signer([NEW])))


def test_the_published_example_gets_the_published_signature() -> None:
    """From the specification's own test suite."""
    signer = Signer(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Asia/Kolkata", "Pacific/Kiritimati"])
def test_the_machines_time_zone_changes_nothing(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sent(Signer([NEW]), 1_700_000_000)
    with monkeypatch.context() as environment:
        environment.setenv("TZ", zone)
        time.tzset()
        try:
            assert sent(Signer([NEW]), 1_700_000_000) == expected
            Webhook(NEW).verify(BODY, sent(Signer([NEW])))
        finally:
            environment.undo()
            time.tzset()


def test_without_a_secret_there_is_no_signature() -> None:
    signer = Signer()
    assert not signer.signed
    assert sent(signer, 5) == {"webhook-id": "msg_01J", "webhook-timestamp": "5"}
    assert Signer([NEW]).signed


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        base64.b64encode(b"k" * 32).decode(),
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        "whsec_" + "Zé" * 20,
        "whsec_" + "Z Z\n" * 10,
        "whsec_" + "Z" * 33,
        "whsk_" + base64.b64encode(b"k" * 32).decode(),
    ],
)
def test_a_bad_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and the base64 of 24 to 64") as refusal:
        Signer([NEW, secret])
    assert str(refusal.value) == "write whsec_ and the base64 of 24 to 64 random bytes"
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_a_secret_is_the_key_it_encodes() -> None:
    assert parse_secret(OLD) == b"o" * 24
