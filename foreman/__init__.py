"""foreman: one Ollama target, every call queued, drained by model and streamed.

What a program that uses a daemon needs stands here: Client, AsyncClient, what they return and what
they raise. It is imported when it is first asked for; `foreman --help` never asks.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foreman.client.aio import AsyncClient
    from foreman.client.answers import ChatResponse, EmbedResponse, GenerateResponse, Message
    from foreman.client.errors import (
        ClientError,
        Damaged,
        JobFailed,
        Refused,
        Resync,
        Unreachable,
        WaitTimeout,
    )
    from foreman.client.sync import Client
    from foreman.client.values import Artifact, Event, Job, Outcome, Progress, Record

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "AsyncClient",
    "ChatResponse",
    "Client",
    "ClientError",
    "Damaged",
    "EmbedResponse",
    "Event",
    "GenerateResponse",
    "Job",
    "JobFailed",
    "Message",
    "Outcome",
    "Progress",
    "Record",
    "Refused",
    "Resync",
    "Unreachable",
    "WaitTimeout",
    "__version__",
]

_HOMES = ("errors", "values", "answers", "sync", "aio")  # modules of foreman.client


def __getattr__(name: str) -> Any:
    """PEP 562: the first of the client's modules that has it. Raises AttributeError."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"foreman.client.{home}")
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
