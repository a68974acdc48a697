"""One step of an answer, before any dialect: what Ollama's handlers hand to their writers."""

from dataclasses import dataclass, field, replace

from foreman.embedded.engine import Json


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of a finished generation; durations in nanoseconds, as on the wire."""

    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of an answer, or, with everything joined, the whole of it."""

    model: str
    created_at: str
    created: int  # the same in seconds since 1970
    content: str = ""
    thinking: str = ""
    tool_calls: tuple[dict[str, Json], ...] = ()
    logprobs: tuple[dict[str, Json], ...] = ()
    done: bool = False
    done_reason: str = ""
    context: tuple[int, ...] = ()
    metrics: Metrics = field(default_factory=Metrics)


def joined(chunks: list[Chunk]) -> Chunk:
    """The answer of a call that does not stream: the last chunk, with the text of all."""
    return replace(
        chunks[-1],
        content="".join(chunk.content for chunk in chunks),
        thinking="".join(chunk.thinking for chunk in chunks),
        tool_calls=tuple(call for chunk in chunks for call in chunk.tool_calls),
        logprobs=tuple(item for chunk in chunks for item in chunk.logprobs),
    )


def nanoseconds(seconds: float) -> int:
    """Go's durations are whole nanoseconds."""
    return round(seconds * 1e9)
