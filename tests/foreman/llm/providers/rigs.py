"""Each provider with something behind it that plays the fake provider's outcomes.

async with opened("openai") as rig:
    rig.plays(Say("Hello"))
    ... rig.model, rig.provider
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from foreman.llm import Model, Provider
from foreman.llm.dsn import DSN
from foreman.llm.providers.fake import FakeProvider
from foreman.llm.providers.script import Outcome
from foreman.llm.schemes import SCHEMES, make
from tests.fakes import vendors
from tests.fakes.vendors import Dialect, Vendor, serving

SECRET = "s3cret-word"  # no pattern knows it
DIALECTS: dict[str, Callable[[], Dialect]] = {
    "ollama": vendors.Ollama,
    "foreman": vendors.Foreman,
    "openai": vendors.OpenAI,
    "anthropic": vendors.Anthropic,
}
REMOTE = tuple(DIALECTS)
ALL = ("fake", *REMOTE)


@dataclass
class Rig:
    """A provider named `box`, its model `m`, and who plays it: a vendor's server, or the fake."""

    name: str
    provider: Provider
    plays: Callable[..., None]
    vendor: Vendor | None = None

    @property
    def model(self) -> Model:
        return self.provider.model("m")

    @property
    def asked(self) -> bool:
        """Whether an outcome is being played."""
        if isinstance(self.provider, FakeProvider):
            return bool(self.provider.calls)
        last = self.server.seen[-1].path if self.server.seen else ""
        return "output" in last if self.name == "foreman" else bool(last)

    @property
    def server(self) -> Vendor:
        assert self.vendor is not None
        return self.vendor


@asynccontextmanager
async def opened(name: str) -> AsyncGenerator[Rig]:
    """The rig; afterwards the provider is closed, and nobody hung in the middle of anything."""
    if name == "fake":
        fake = FakeProvider("box", models={"m": []})
        yield Rig(name, fake, lambda *outcomes: _script(fake, outcomes))
        return
    async with serving(DIALECTS[name]()) as vendor:
        provider = make(dsn(name, vendor.url), SCHEMES)
        try:
            yield Rig(name, provider, vendor.script, vendor)
        finally:
            await provider.aclose()


def dsn(name: str, url: str) -> DSN:
    """As a user would write it."""
    path = "/v1" if name == "openai" else ""
    place = url.removeprefix("http://")
    return DSN.parse("box", f"{name}+http://{SECRET}@{place}{path}")


def _script(fake: FakeProvider, outcomes: tuple[Outcome, ...]) -> None:
    fake.script("m", *outcomes)
