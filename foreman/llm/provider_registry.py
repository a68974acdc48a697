"""Providers by name: registered ones, and those that a DSN describes.

>>> providers = ProviderRegistry(environ={"LLM_M1": "foreman://s3cret@box"})
>>> providers.providers
('m1',)
"""

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from foreman.llm import environment
from foreman.llm.dsn import DSN
from foreman.llm.errors import Closed, SpecError
from foreman.llm.model import Provider
from foreman.llm.schemes import SCHEMES, Factory, check, make


class ProviderRegistry:
    """Providers by name. Closing it closes them; every call after that raises Closed.

    `environ` is read at once, and again for each name that nobody knows yet; a provider that was
    registered hides the environment's of that name. The schemes `foreman`, `ollama`, `openai` and
    `anthropic` are names of providers too, without any DSN. What a DSN describes is made when it
    is first called.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] = os.environ,
        schemes: Mapping[str, Factory | str] = SCHEMES,
    ) -> None:
        self._environ = environ
        self._schemes = schemes
        self._registered: dict[str, Provider] = {}
        self._described: dict[str, DSN] = {}
        self._made: dict[str, Provider] = {}
        self._closed = False
        self.load_env()

    @property
    def providers(self) -> tuple[str, ...]:
        """The names of all that are known by now, registered ones first."""
        return tuple(dict.fromkeys([*self._registered, *self._described]))

    @property
    def closed(self) -> bool:
        return self._closed

    def load_env(self) -> tuple[str, ...]:
        """Learn of every DSN in the environment; the names of their providers.

        A value that is no DSN, or none of ours, is not meant for us; the log tells of the others.
        """
        self._refuse_closed()
        for dsn in environment.scan(self._environ, self._schemes):
            self._described.setdefault(dsn.name, dsn)
        return tuple(self._described)

    def register(self, provider: Provider) -> None:
        """Take a provider in, and its closing. Raises SpecError for a name that is taken or odd."""
        self._refuse_closed()
        name = provider.name
        if not name or any(character in name for character in "/, "):
            raise SpecError(f"{name!r} cannot name a provider: without slash, comma and space")
        if name in self._registered:
            raise SpecError(f"there is a provider {name!r} already")
        self._registered[name] = provider

    def describe(self, name: str, dsn: str) -> None:
        """Define a provider by its DSN, as a configuration file would, `${VAR}` and all.

        Raises SpecError.
        """
        self._refuse_closed()
        if name in self._registered or name in self._made:
            raise SpecError(f"there is a provider {name!r} already")
        described = DSN.parse(name, dsn, self._environ)
        check(described, self._schemes)
        self._described[name] = described

    async def unregister(self, name: str) -> None:
        """Close the provider and forget it. Raises SpecError when there is none."""
        self._refuse_closed()
        if name not in self.providers:
            raise SpecError(self._unknown(name))
        self._described.pop(name, None)
        for provider in (self._registered.pop(name, None), self._made.pop(name, None)):
            if provider is not None:
                await provider.aclose()

    def provider(self, name: str) -> Provider:
        """The provider itself. Raises SpecError, Closed, or Unsupported if it cannot be made."""
        self._refuse_closed()
        if name in self._registered:
            return self._registered[name]
        if name not in self._made:
            self._made[name] = make(self._describe(name), self._schemes)
        return self._made[name]

    async def aclose(self) -> None:
        """Close every provider; the last error is raised when all have been. May be repeated."""
        self._closed = True
        failed: Exception | None = None
        for provider in (*self._registered.values(), *self._made.values()):
            try:
                await provider.aclose()
            except Exception as error:  # noqa: BLE001 - the others have to be closed too
                failed = error
        self._registered.clear()
        self._made.clear()
        if failed is not None:
            raise failed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def check(self, name: str) -> None:
        """Whether there could be a provider of this name. Raises SpecError, which says why not."""
        if name not in self._registered:
            self._describe(name)

    def _describe(self, name: str) -> DSN:
        """The DSN of a provider that is not registered. Raises SpecError."""
        if name not in self._described:
            found = environment.find(name, self._environ, self._schemes)
            if found is None:
                raise SpecError(self._unknown(name))
            self._described[name] = found
        return self._described[name]

    def _unknown(self, name: str) -> str:
        known = ", ".join([*self.providers, *sorted(environment.BUILT_IN & self._schemes.keys())])
        where = environment.variable(name)
        return f"there is no provider {name!r} among: {known}; {where} is not set"

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Closed("the registry is closed")
