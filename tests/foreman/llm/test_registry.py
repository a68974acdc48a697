import logging
from collections.abc import Callable

import pytest

from foreman.llm import Closed, Exhausted, Provider, Request, SpecError, Unauthorized, Unsupported
from foreman.llm.dsn import DSN
from foreman.llm.environment import find, variable
from foreman.llm.failover import Failover
from foreman.llm.health import Breaking
from foreman.llm.providers.fake import FakeProvider, Say, Status
from foreman.llm.registry import Registry
from foreman.llm.schemes import SCHEMES

HI = Request.of("Hi")


class Factory:
    """Makes fakes, and remembers of what."""

    def __init__(self) -> None:
        self.made: list[DSN] = []

    def __call__(self, dsn: DSN) -> FakeProvider:
        self.made.append(dsn)
        return FakeProvider(dsn.name)


@pytest.fixture(name="factory")
def _factory() -> Factory:
    return Factory()


def registry(factory: Callable[[DSN], Provider], **environ: str) -> Registry:
    schemes = dict.fromkeys(("foreman", "ollama", "openai", "anthropic"), factory)
    return Registry(environ=environ, schemes=schemes)


async def test_a_dsn_in_the_environment_is_a_provider_made_when_first_called(
    factory: Factory,
) -> None:
    known = registry(factory, LLM_M1="foreman://token@host")
    model = known.model("m1/qwen3:30b")
    assert known.providers == ("m1",)
    assert factory.made == []
    assert (await model.complete(HI)).target == "m1/qwen3:30b"
    await model.complete(HI)
    [dsn] = factory.made
    assert (dsn.name, dsn.scheme, dsn.url) == ("m1", "foreman", "http://host:8080")
    assert dsn.token is not None
    assert dsn.token.reveal() == "token"


def test_a_variable_set_later_is_found_when_its_name_is_used(factory: Factory) -> None:
    environ: dict[str, str] = {}
    known = Registry(environ=environ, schemes={"foreman": factory})
    with pytest.raises(SpecError, match="no provider 'm1' among: foreman; LLM_M1 is not set"):
        known.model("m1/a")
    environ["LLM_M1"] = "foreman://host"
    assert known.model("m1/a").targets == ("m1/a",)


def test_load_env_finds_what_was_set_since(factory: Factory) -> None:
    environ: dict[str, str] = {}
    known = Registry(environ=environ, schemes={"foreman": factory})
    environ["LLM_M1"] = "foreman://host"
    assert known.load_env() == ("m1",)


def test_an_unknown_scheme_is_named_when_it_is_used_and_logged_by_the_scan(
    factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "foreman.llm"):
        known = registry(factory, LLM_X="nosuch://s3cret@h", LLM_M1="ollama://h")
    assert known.providers == ("m1",)
    assert "LLM_X: no scheme 'nosuch'" in caplog.text
    with pytest.raises(SpecError, match=r"LLM_X: no scheme 'nosuch' among: .*foreman") as caught:
        known.model("x/m")
    assert "s3cret" not in caplog.text + str(caught.value)


def test_one_bad_variable_spoils_nothing_and_is_explained_when_it_is_used(
    factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    known = registry(factory, LLM_BAD="foreman://s3cret@h:99999", LLM_OK="foreman://h")
    assert known.providers == ("ok",)
    with pytest.raises(SpecError, match=r"^LLM_BAD: provider 'bad': write the host"):
        known.model("bad/m")
    assert "s3cret" not in caplog.text


def test_other_settings_of_that_prefix_are_not_ours(
    factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    known = registry(factory, LLM_TIMEOUT="2m0s", LLM_DEFAULT_MODEL="gpt/4", LLM_="foreman://h")
    assert known.providers == ()
    assert caplog.text == ""
    with pytest.raises(SpecError, match="LLM_TIMEOUT: write scheme://token@host:port"):
        known.model("timeout/m")


async def test_a_registered_provider_wins_over_the_environment(factory: Factory) -> None:
    known = registry(factory, LLM_M1="foreman://host")
    mine = FakeProvider("m1", models={"a": [Say("mine")]})
    known.register(mine)
    assert (await known.model("m1/a").complete(HI)).text == "mine"
    assert factory.made == []


async def test_built_in_names_need_no_dsn(factory: Factory) -> None:
    known = registry(factory, OPENAI_API_KEY="sk-1")
    for name in ("foreman", "ollama", "openai", "anthropic"):
        await known.model(f"{name}/m").complete(HI)
    urls = {dsn.name: dsn.url for dsn in factory.made}
    assert urls == {
        "foreman": "http://127.0.0.1:8080",
        "ollama": "http://127.0.0.1:11434",
        "openai": "",
        "anthropic": "",
    }
    tokens = {dsn.name: dsn.token and dsn.token.reveal() for dsn in factory.made}
    assert tokens["openai"] == "sk-1"
    assert tokens["anthropic"] is None


@pytest.mark.parametrize(
    ("environ", "token"),
    [
        ({"LLM_X": "openai://dsn@h", "LLM_X_API_KEY": "own", "OPENAI_API_KEY": "usual"}, "dsn"),
        ({"LLM_X": "openai://h/v1", "LLM_X_API_KEY": "own", "OPENAI_API_KEY": "usual"}, "own"),
        ({"LLM_X": "openai://", "OPENAI_API_KEY": "usual"}, "usual"),
        ({"LLM_X": "openai://h/v1", "OPENAI_API_KEY": "usual"}, None),
        ({"LLM_X": "ollama://h", "OLLAMA_API_KEY": "usual"}, None),
    ],
)
def test_keys_are_looked_for_in_order_and_no_stranger_sees_the_vendors(
    environ: dict[str, str], token: str | None
) -> None:
    dsn = find("x", environ, SCHEMES)
    assert dsn is not None
    assert (dsn.token and dsn.token.reveal()) == token


def test_a_providers_variable_has_neither_dash_nor_space() -> None:
    assert variable("provider-beta") == "LLM_PROVIDER_BETA"
    assert find("my-box", {"LLM_MY_BOX": "foreman://h"}, SCHEMES) is not None


async def test_a_chain_may_end_in_the_alias_thinking() -> None:
    known = Registry(environ={})
    known.register(FakeProvider("m1", models={"a": [Status(404)]}))
    known.register(FakeProvider("m5", models={"b": [Say("deep")]}))
    known.alias("thinking", ["m5/b", "claude/x"])
    known.register(FakeProvider("claude"))
    model = known.model("m1/a, thinking")
    assert model.name == "m1/a, thinking"
    assert model.targets == ("m1/a", "m5/b", "claude/x")
    assert (await model.complete(HI)).target == "m5/b"


async def test_the_default_is_a_spec_like_any_other() -> None:
    known = Registry(environ={})
    known.register(FakeProvider("m1"))
    known.default = "m1/a"
    assert (await known.model().complete(HI)).target == "m1/a"


async def test_chains_of_one_registry_share_its_health() -> None:
    known = Registry(environ={}, breaking=Breaking(threshold=2))
    fake = FakeProvider("p", models={"a": [Status(503)] * 2, "b": []})
    known.register(fake)
    await known.model("p/a, p/b").complete(HI)
    with pytest.raises(Exhausted, match="cooling down"):
        await known.model("p/a").complete(HI)
    assert fake.made("a") == 2


async def test_a_package_that_is_not_installed_is_an_error_of_the_call() -> None:
    schemes = {"openai": "foreman.llm.providers.nosuch:from_dsn"}
    known = Registry(environ={}, schemes=schemes)
    known.register(FakeProvider("p"))
    alone = known.model("openai/gpt")
    with pytest.raises(Exhausted, match=r"nosuch is not installed: pip install .*\[openai\]"):
        await alone.complete(HI)
    assert (await known.model("openai/gpt, p/m").complete(HI)).target == "p/m"
    with pytest.raises(Unsupported):
        known.provider("openai")


async def test_a_provider_that_refuses_its_dsn_is_a_target_that_failed() -> None:
    def refuse(dsn: DSN) -> Provider:
        raise SpecError(f"provider {dsn.name!r} needs a key")

    known = Registry(environ={}, schemes={"openai": refuse})
    known.register(FakeProvider("p"))
    with pytest.raises(Unauthorized, match="openai/gpt: provider 'openai' needs a key") as caught:
        await known.model("openai/gpt, p/m").complete(HI)
    assert [attempt.target for attempt in caught.value.attempts] == ["openai/gpt"]
    lenient = known.model("openai/gpt, p/m", failover=Failover(advance_on_permanent=True))
    assert (await lenient.complete(HI)).target == "p/m"


def test_names_that_are_taken_or_odd_are_refused() -> None:
    known = Registry(environ={})
    known.register(FakeProvider("p"))
    for refused, why in ((FakeProvider("p"), "already"), (FakeProvider("a/b"), "cannot name")):
        with pytest.raises(SpecError, match=why):
            known.register(refused)
    for alias in ("", " ", "a/b", "a,b"):
        with pytest.raises(SpecError, match="cannot name an alias"):
            known.alias(alias, "p/m")
    with pytest.raises(SpecError, match="column 1"):
        known.alias("empty", [])


def test_a_configuration_may_describe_a_provider_by_its_dsn(factory: Factory) -> None:
    known = registry(factory, KEY="s3cret")
    known.describe("box", "foreman://${KEY}@box")
    assert known.model("box/m").targets == ("box/m",)
    with pytest.raises(SpecError, match="provider 'other': the variable NONE is not set"):
        known.describe("other", "foreman://${NONE}@box")
    with pytest.raises(SpecError, match="provider 'other': no scheme 'nosuch' among: anthropic"):
        known.describe("other", "nosuch://box")
    known.register(FakeProvider("p"))
    with pytest.raises(SpecError, match="already"):
        known.describe("p", "foreman://box")


async def test_what_the_program_says_of_a_name_stays_when_the_environment_is_read_again(
    factory: Factory,
) -> None:
    environ: dict[str, str] = {}
    known = Registry(environ=environ, schemes={"foreman": factory})
    known.describe("box", "foreman://mine")
    environ["LLM_BOX"] = "foreman://theirs"
    known.load_env()
    await known.model("box/m").complete(HI)
    assert factory.made[0].url == "http://mine:8080"


async def test_unregistering_closes() -> None:
    known = Registry(environ={})
    fake = FakeProvider("p")
    known.register(fake)
    await known.unregister("p")
    assert fake.closed
    with pytest.raises(SpecError, match="no provider 'p'"):
        known.model("p/m")
    with pytest.raises(SpecError, match="no provider 'p'"):
        await known.unregister("p")


async def test_who_serves_a_model_is_told_in_order() -> None:
    known = Registry(environ={}, breaking=Breaking(threshold=1))
    for name in ("z", "a", "m"):
        known.register(FakeProvider(name, models={"x": [], "y": []}))
    known.register(FakeProvider("silent"))
    assert await known.serving("x") == ("z/x", "a/x", "m/x")
    known.health["z/x"].rest(10)
    assert await known.serving("x") == ("a/x", "m/x")
    for nobodys in ("", "nosuch"):
        with pytest.raises(SpecError, match="no provider says"):
            await known.serving(nobodys)


class Stubborn(FakeProvider):
    async def aclose(self) -> None:
        await super().aclose()
        raise OSError("will not close")


async def test_closing_closes_all_and_refuses_what_comes_after() -> None:
    first, last = Stubborn("a"), FakeProvider("b")
    known = Registry(environ={})
    known.register(first)
    known.register(last)
    model = known.model("b/m")
    with pytest.raises(OSError, match="will not close"):
        await known.aclose()
    assert last.closed
    await known.aclose()
    for call in (known.load_env, known.model, lambda: known.provider("b")):
        with pytest.raises(Closed):
            call()
    with pytest.raises(Closed):
        await model.complete(HI)


async def test_a_block_closes_at_its_end() -> None:
    fake = FakeProvider("p")
    async with Registry(environ={}) as known:
        known.register(fake)
    assert fake.closed
    assert known.closed
