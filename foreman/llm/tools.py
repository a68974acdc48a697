"""Tools: functions a model may ask for, and the box that runs them without letting them hurt."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, cast, get_type_hints

import anyio
import anyio.to_thread
import msgspec

from foreman.llm.messages import Message, Role, ToolCall, ToolResult

DEADLINE = 60.0  # seconds one execution may take, unless the tool says otherwise
LONGEST = 64 * 1024  # characters of a result that the model gets to read


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """Something a model may ask for. `tool` makes one from a function.

    `parameters` is a JSON Schema of an object. `run` takes the arguments by name, as the model
    wrote them, and returns a str or what JSON can say; it may be `async def`, else it runs in a
    thread. `deadline` is in seconds.
    """

    name: str
    description: str
    parameters: Mapping[str, object]
    run: Callable[[dict[str, object]], object]
    deadline: float = DEADLINE


def tool(function: Callable[..., object], *, name: str = "", deadline: float = DEADLINE) -> Tool:
    """A tool from a function with annotated parameters; its docstring is the description.

    The arguments are checked against the annotations, and converted, before it is called. Raises
    TypeError for parameters that have no name, or whose types JSON cannot say.

    >>> def weather(city: str, days: int = 1) -> str:
    ...     "The weather to come."
    ...     return f"{days} day(s) of rain in {city}"
    >>> box = Toolbox([tool(weather)])
    >>> (await box.execute(ToolCall.of("1", "weather", {"city": "Oslo"}))).text
    '1 day(s) of rain in Oslo'
    >>> (await box.execute(ToolCall.of("2", "weather", {"city": 7}))).failed
    True
    """
    shape = _arguments(function)

    def checked(arguments: dict[str, object]) -> dict[str, object]:
        values = msgspec.convert(arguments, shape, strict=False)  # models like to quote numbers
        return {each: getattr(values, each) for each in shape.__struct_fields__}

    def run(arguments: dict[str, object]) -> object:
        return function(**checked(arguments))

    async def run_async(arguments: dict[str, object]) -> object:
        return await cast("Awaitable[object]", function(**checked(arguments)))

    return Tool(
        name=name or getattr(function, "__name__", "tool"),
        description=inspect.getdoc(function) or "",
        parameters=_schema(shape),
        run=run_async if inspect.iscoroutinefunction(function) else run,
        deadline=deadline,
    )


def _arguments(function: Callable[..., object]) -> type[msgspec.Struct]:
    """A type with the function's parameters as its fields."""
    hints = get_type_hints(function, include_extras=True)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for each in inspect.signature(function).parameters.values():
        if each.kind not in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}:
            raise TypeError(f"a tool takes its arguments by name; {each} has none")
        kind = hints.get(each.name, Any)
        given = each.default is not each.empty
        fields.append((each.name, kind, each.default) if given else (each.name, kind))
    return msgspec.defstruct(
        "Arguments", fields, kw_only=True, forbid_unknown_fields=True, namespace={"__doc__": None}
    )


def _schema(shape: type[msgspec.Struct]) -> dict[str, object]:
    """Its JSON Schema, an object at the top as every vendor wants it."""
    _, components = msgspec.json.schema_components([shape], ref_template="#/$defs/{name}")
    schema: dict[str, object] = dict(components.pop(shape.__name__))
    schema.pop("title", None)
    return {**schema, "$defs": components} if components else schema


class Toolbox:
    """Runs tool calls. Whatever goes wrong in a tool becomes a result that says so.

    Only `Exception` is contained: cancellation and KeyboardInterrupt go where they have to. A
    tool in a thread that is cancelled, or past its deadline, is left behind: its result is lost.
    Raises ValueError for two tools of one name. `longest`: characters of a result that are kept.
    """

    def __init__(self, tools: Iterable[Tool], *, longest: int = LONGEST) -> None:
        self._tools: dict[str, Tool] = {}
        self._longest = longest
        for each in tools:
            if each.name in self._tools:
                raise ValueError(f"two tools are called {each.name}")
            self._tools[each.name] = each

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    async def execute(self, call: ToolCall) -> ToolResult:
        """The call's result, or one with `failed` that says why there is none."""
        try:
            text, failed = await self._run(call), False
        except Exception as error:  # noqa: BLE001 - the model reads about it and goes on
            text, failed = _apology(error), True
        if len(text) > self._longest:
            text = f"{text[: self._longest]}\n[cut off after {self._longest} characters]"
        return ToolResult(call.id, call.name, text, failed)

    async def answer(self, calls: Iterable[ToolCall]) -> Message:
        """The user message that answers these calls, which run side by side; order is kept."""
        wanted = list(calls)
        results: dict[int, ToolResult] = {}

        async def one(index: int, call: ToolCall) -> None:
            results[index] = await self.execute(call)

        async with anyio.create_task_group() as group:
            for index, call in enumerate(wanted):
                group.start_soon(one, index, call)
        return Message(Role.USER, tuple(results[index] for index in range(len(wanted))))

    async def _run(self, call: ToolCall) -> str:
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            raise _ToolError(f"there is no tool {call.name!r}; there are: {known}")
        arguments = _checked(tool, call)
        with anyio.move_on_after(tool.deadline) as scope:
            return _as_text(await _started(tool, arguments))
        assert scope.cancelled_caught
        raise _ToolError(f"it was stopped after {tool.deadline:g} s")


class _ToolError(Exception):
    """Ours, and worded for the model."""


def _checked(tool: Tool, call: ToolCall) -> dict[str, object]:
    """The arguments. Raises _ToolError for no object, or one that lacks what is required."""
    try:
        arguments = call.arguments
    except ValueError as error:
        raise _ToolError(f"bad arguments: {error}") from error
    required = cast("list[str]", tool.parameters.get("required", []))
    if missing := [name for name in required if name not in arguments]:
        raise _ToolError(f"bad arguments: {', '.join(missing)} missing")
    return arguments


async def _started(tool: Tool, arguments: dict[str, object]) -> object:
    if inspect.iscoroutinefunction(tool.run):
        return await tool.run(arguments)
    return await anyio.to_thread.run_sync(tool.run, arguments, abandon_on_cancel=True)


def _as_text(result: object) -> str:
    """A str as it is, anything else as JSON. Raises TypeError for what JSON cannot say."""
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()


def _apology(error: Exception) -> str:
    if isinstance(error, _ToolError):
        return f"Error: {error}"
    if isinstance(error, msgspec.ValidationError):
        return f"Error: bad arguments: {error}"
    return f"Error: {type(error).__name__}: {error}"
