"""Which code makes a provider of a DSN, by the DSN's scheme. Nothing is imported before its use."""

from collections.abc import Callable, Collection, Mapping
from importlib import import_module

from foreman.llm.dsn import DSN
from foreman.llm.errors import SpecError, Unsupported
from foreman.llm.model import Provider

Factory = Callable[[DSN], Provider]
"""Makes the provider without calling it. Raises SpecError for a DSN that cannot work."""

SCHEMES: Mapping[str, Factory | str] = {
    "foreman": "foreman.llm.providers.foreman:from_dsn",
    "ollama": "foreman.llm.providers.ollama:from_dsn",
    "openai": "foreman.llm.providers.openai:from_dsn",
    "anthropic": "foreman.llm.providers.anthropic:from_dsn",
}


def check(dsn: DSN, schemes: Collection[str]) -> None:
    """Raises SpecError for a scheme that nobody knows."""
    if dsn.scheme not in schemes:
        known = ", ".join(sorted(schemes))
        raise SpecError(f"provider {dsn.name!r}: no scheme {dsn.scheme!r} among: {known}")


def make(dsn: DSN, schemes: Mapping[str, Factory | str]) -> Provider:
    """The DSN's provider. Raises SpecError, and Unsupported where a package is not installed."""
    factory = schemes[dsn.scheme]
    try:
        return (_load(factory) if isinstance(factory, str) else factory)(dsn)
    except ImportError as error:
        missing = error.name or "a package"
        raise Unsupported(
            f"{missing} is not installed: pip install 'foreman-ollama[{dsn.scheme}]'",
            target=dsn.name,
        ) from error


def _load(path: str) -> Factory:
    module, _, name = path.partition(":")
    factory: Factory = getattr(import_module(module), name)
    return factory
