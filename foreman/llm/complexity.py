"""How hard a request looks, from 0 to 1, by five signals that cost nothing to read.

    length      a logistic curve over its tokens, a half at 1000
    code        fenced blocks, three are a whole
    files       distinct paths and distinct file extensions, three are a whole
    analysis    distinct words that ask for it, three are a whole
    turns       a logistic curve over its messages, a half at 6

What is too short to tell is taken for hard: being wrong that way costs money, not quality.
"""

import math
import re
from collections.abc import Iterator

import msgspec

from foreman.llm.capabilities import CHARACTERS_PER_TOKEN
from foreman.llm.messages import Text, ToolResult
from foreman.llm.request import Request
from foreman.llm.tiers import Tier

SHORTEST = 10  # characters of a text that can be judged
ENOUGH = 3  # of a thing that is counted

KEYWORDS = (
    "analy[sz]",
    "architect",
    "compar",
    "debug",
    "design",
    "evaluat",
    "explain",
    "implement",
    "optimi[sz]",
    "refactor",
    "review",
)  # fmt: skip - how such words begin

_FENCED = re.compile(r"^ *(```|~~~).*?^ *\1", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?<![\w:/.-])(?:(?:~|\.{1,2})?/)?(?:[\w-][\w.-]*/)+[\w-]*\.[A-Za-z]\w{0,4}\b")
_EXTENSION = re.compile(
    r"(?<=[\w)*])\.(py|pyi|rs|go|js|jsx|ts|tsx|java|kt|c|h|cc|cpp|hpp|cs|rb|php|swift|scala|sh|sql"
    r"|html|css|json|ya?ml|toml|xml|md|txt|csv|ini|cfg|lock|proto|ipynb)\b",
    re.IGNORECASE,
)


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """How much each signal counts. All 0: everything is hard."""

    length: float = 1.0
    code: float = 1.0
    files: float = 1.0
    analysis: float = 1.0
    turns: float = 1.0


class Complexity(msgspec.Struct, frozen=True, kw_only=True):
    """Scores requests. Below `low` is for LOCAL, above `high` for FRONTIER, both ends STANDARD.

    `extra_keywords` ask for analysis too; each is the beginning of a word.

    >>> round(Complexity().score(Request.of("a text of 25 characters..")), 4)
    0.0248
    >>> Complexity().tier(0.7)
    <Tier.STANDARD: 1>

    Raises ValueError for thresholds in the wrong order and weights below 0.
    """

    low: float = 0.4
    high: float = 0.7
    weights: Weights = Weights()
    extra_keywords: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.low <= self.high or min(msgspec.structs.astuple(self.weights)) < 0:
            raise ValueError("needs low <= high and weights of 0 or above")

    def score(self, request: Request) -> float:
        """The weighted mean of the signals; 1.0 for a text under ten characters."""
        texts = [*_texts(request)]
        weights: tuple[float, ...] = msgspec.structs.astuple(self.weights)
        length = sum(map(len, texts))
        if length < SHORTEST or not any(weights):
            return 1.0
        signals = self._signals("\n".join(texts), length, len(request.messages))
        weighed = math.fsum(map(lambda w, s: w * s, weights, signals)) / math.fsum(weights)
        return min(1.0, max(0.0, weighed))

    def tier(self, score: float) -> Tier:
        """What a request of this score may be worth."""
        if score < self.low:
            return Tier.LOCAL
        return Tier.FRONTIER if score > self.high else Tier.STANDARD

    def _signals(self, text: str, length: int, messages: int) -> tuple[float, ...]:
        extra = tuple(re.escape(word) for word in self.extra_keywords)
        lower = text.lower()
        files = {*_PATH.findall(text), *map(str.lower, _EXTENSION.findall(text))}
        words = sum(re.search(rf"\b{word.lower()}", lower) is not None for word in KEYWORDS + extra)
        return (
            _logistic(0.003 * (length // CHARACTERS_PER_TOKEN - 1000)),
            _share(sum(1 for _ in _FENCED.finditer(text))),
            _share(len(files)),
            _share(words),
            _logistic(0.5 * (messages - 6)),
        )


def _texts(request: Request) -> Iterator[str]:
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text | ToolResult):
                yield part.text


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _share(count: int) -> float:
    return min(1.0, count / ENOUGH)
