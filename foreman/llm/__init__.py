"""foreman.llm: many providers through one contract, with health, failover and cost.

    from foreman.llm import Request, user

Everything a program needs has its name here, and is imported when it is first asked for. The
modules say the rest: `model` the rules that every model keeps, `errors` what can be raised,
`classification` what follows from it, `providers.fake` how to test with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foreman.llm.accounting import Ledger
    from foreman.llm.attempts import Attempt, Skip, SkipReason
    from foreman.llm.blocking import Blocking
    from foreman.llm.budgeted import Budgeted
    from foreman.llm.budgets import Budget
    from foreman.llm.capabilities import Capabilities, ImageLimits
    from foreman.llm.chain import Chain
    from foreman.llm.choice import Choice
    from foreman.llm.classification import Classifier, Treatment, classify
    from foreman.llm.complexity import Complexity
    from foreman.llm.cost import Cost, PriceTable
    from foreman.llm.errors import (
        BudgetExceeded,
        CallError,
        Closed,
        ContextTooLong,
        DeadlinePassed,
        Exhausted,
        InvalidRequest,
        InvalidResponse,
        LLMError,
        MediaError,
        ModelNotFound,
        RateLimited,
        ServerError,
        SpecError,
        StreamBroken,
        TimedOut,
        Unauthorized,
        Unreachable,
        Unsupported,
    )
    from foreman.llm.failover import Failover
    from foreman.llm.health import Breaking, Health
    from foreman.llm.media import fit, load_image, read_image
    from foreman.llm.messages import (
        Image,
        Message,
        Role,
        Text,
        Thinking,
        ToolCall,
        ToolResult,
        assistant,
        system,
        user,
    )
    from foreman.llm.model import Model, Provider
    from foreman.llm.observed import Observed
    from foreman.llm.ordering import as_written, cheapest, lowest_latency, priority, round_robin
    from foreman.llm.policies import Policy
    from foreman.llm.prices import Prices, Rates
    from foreman.llm.record import Record
    from foreman.llm.registry import Registry
    from foreman.llm.request import Options, Request
    from foreman.llm.request_log import RequestLog
    from foreman.llm.response import Event, FinishReason, Place, Response
    from foreman.llm.tiers import Tier, Tiers
    from foreman.llm.tools import Tool, Toolbox, tool
    from foreman.llm.usage import Usage
    from foreman.llm.waiting import by_waiting

__all__ = [
    "Attempt",
    "Blocking",
    "Breaking",
    "Budget",
    "BudgetExceeded",
    "Budgeted",
    "CallError",
    "Capabilities",
    "Chain",
    "Choice",
    "Classifier",
    "Closed",
    "Complexity",
    "ContextTooLong",
    "Cost",
    "DeadlinePassed",
    "Event",
    "Exhausted",
    "Failover",
    "FinishReason",
    "Health",
    "Image",
    "ImageLimits",
    "InvalidRequest",
    "InvalidResponse",
    "LLMError",
    "Ledger",
    "MediaError",
    "Message",
    "Model",
    "ModelNotFound",
    "Observed",
    "Options",
    "Place",
    "Policy",
    "PriceTable",
    "Prices",
    "Provider",
    "RateLimited",
    "Rates",
    "Record",
    "Registry",
    "Request",
    "RequestLog",
    "Response",
    "Role",
    "ServerError",
    "Skip",
    "SkipReason",
    "SpecError",
    "StreamBroken",
    "Text",
    "Thinking",
    "Tier",
    "Tiers",
    "TimedOut",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Toolbox",
    "Treatment",
    "Unauthorized",
    "Unreachable",
    "Unsupported",
    "Usage",
    "as_written",
    "assistant",
    "by_waiting",
    "cheapest",
    "classify",
    "fit",
    "load_image",
    "lowest_latency",
    "priority",
    "read_image",
    "round_robin",
    "system",
    "tool",
    "user",
]

_HOMES = (
    "messages",
    "request",
    "response",
    "usage",
    "errors",
    "attempts",
    "capabilities",
    "classification",
    "model",
    "failover",
    "health",
    "prices",
    "ordering",
    "tiers",
    "complexity",
    "policies",
    "choice",
    "waiting",
    "chain",
    "registry",
    "tools",
    "media",
    "blocking",
    "record",
    "cost",
    "budgets",
    "budgeted",
    "observed",
    "accounting",
    "request_log",
)  # fmt: skip - modules, the light ones first


def __getattr__(name: str) -> Any:
    """PEP 562: the first of the modules that has it. Raises AttributeError."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"foreman.llm.{home}")
            if name in vars(module):
                return vars(module)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
