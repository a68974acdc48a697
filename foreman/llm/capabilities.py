"""What a model can do. Whoever knows nothing about it fills in nothing."""

import msgspec

from foreman.llm.messages import Image, Part, Text, Thinking, ToolCall, ToolResult
from foreman.llm.request import Options, Request

CHARACTERS_PER_TOKEN = 4


class ImageLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What pictures a target takes: types, the longer edge in pixels, bytes before base64."""

    media_types: frozenset[str] = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
    edge: int | None = None
    size: int | None = None

    def allows(self, image: Image) -> bool:
        return (
            image.media_type in self.media_types
            and (self.edge is None or max(image.width, image.height) <= self.edge)
            and (self.size is None or len(image.data) <= self.size)
        )


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a model can do.

    The defaults are those of a model nobody described: able, and of unknown size. A wrong yes
    costs one refused call that says so; a wrong no would hide the model for ever.

    >>> Capabilities(json=False).lacks(Request.of("Hello", options=Options(json=True)))
    'JSON'
    >>> Capabilities(max_output=100, top_k=False).adapt(Options(max_tokens=500, top_k=40))
    Options(max_tokens=100, temperature=None, top_p=None, top_k=None, stop=(), ...)
    """

    context: int | None = None
    """Tokens of prompt and answer together; None: unknown, taken as large enough."""
    max_output: int | None = None
    """Tokens of one answer; None: unknown, never clamped."""
    streaming: bool = True
    tools: bool = True
    images: ImageLimits | None = ImageLimits()
    """None: it sees none."""
    json: bool = True
    thinking: bool = True
    temperature: bool = True
    top_p: bool = True
    top_k: bool = True
    seed: bool = True
    stop: bool = True
    prompt_cache: bool = False
    """Only a provider that sends cache markers says so."""

    def lacks(self, request: Request) -> str:
        """What the request needs and the model has not; "" when nothing is missing."""
        if request.tools and not self.tools:
            return "tools"
        if self.images is None and any(message.images for message in request.messages):
            return "images"
        if request.options.json is not False and not self.json:
            return "JSON"
        if self.context is not None and prompt_estimate(request) >= self.context:
            return f"room for the prompt (its window has {self.context} tokens)"
        return ""

    def adapt(self, options: Options) -> Options:
        """The options without what the model does not know, its answer's length clamped.

        For what changes how an answer is made, not what it is: a missing `seed` is no reason to
        refuse, a missing tool is (see `lacks`).
        """
        longest = options.max_tokens
        if longest is not None and self.max_output is not None:
            longest = min(longest, self.max_output)
        return msgspec.structs.replace(
            options,
            max_tokens=longest,
            temperature=options.temperature if self.temperature else None,
            top_p=options.top_p if self.top_p else None,
            top_k=options.top_k if self.top_k else None,
            seed=options.seed if self.seed else None,
            stop=options.stop if self.stop else (),
            thinking=options.thinking if self.thinking else None,
        )


def prompt_estimate(request: Request) -> int:
    """Tokens the prompt may have: a quarter of its characters, at least 1. Pictures count none."""
    characters = sum(_length(part) for message in request.messages for part in message.parts)
    return max(1, characters // CHARACTERS_PER_TOKEN)


def _length(part: Part) -> int:
    match part:
        case ToolCall():
            return len(part.arguments_json)
        case Image():
            return 0
        case Text() | Thinking() | ToolResult():
            return len(part.text)
