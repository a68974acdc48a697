import functools
import threading
from typing import Literal

import anyio
import msgspec
import pytest

from foreman.llm import Role, Tool, Toolbox, ToolCall, ToolResult, tool


class Place(msgspec.Struct):
    lat: float
    lon: float


def weather(city: str, days: int = 1, *, unit: Literal["C", "F"] = "C") -> str:
    """The weather to come.

    Of a city.
    """
    return f"{days} day(s) of {unit} in {city}"


async def where(place: Place) -> dict[str, float]:
    await anyio.lowlevel.checkpoint()
    return {"lat": place.lat, "lon": place.lon}


async def boom() -> None:
    await anyio.lowlevel.checkpoint()
    raise ZeroDivisionError("by zero")


def bare(run: object, **more: object) -> Tool:
    return Tool(name="f", description="", parameters={"type": "object", **more}, run=run)  # type: ignore[arg-type]


async def result(box: Toolbox, name: str, arguments_json: str = "{}") -> ToolResult:
    return await box.execute(ToolCall("1", name, arguments_json))


def test_a_function_becomes_a_tool() -> None:
    made = tool(weather)

    assert made.name == "weather"
    assert made.description == "The weather to come.\n\nOf a city."
    assert made.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 1},
            "unit": {"enum": ["C", "F"], "default": "C"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_a_type_within_is_described_within() -> None:
    parameters = tool(where).parameters

    assert parameters["properties"] == {"place": {"$ref": "#/$defs/Place"}}
    assert "Place" in parameters["$defs"]  # type: ignore[operator]


@pytest.mark.parametrize("function", [lambda *words: None, lambda **words: None])
def test_parameters_without_a_name_are_refused(function: object) -> None:
    with pytest.raises(TypeError, match="by name"):
        tool(function)  # type: ignore[arg-type]


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two tools are called weather"):
        Toolbox([tool(weather), tool(where, name="weather")])


async def test_a_plain_function_runs_beside_the_loop() -> None:
    seen: list[int] = []
    box = Toolbox([bare(lambda _: seen.append(threading.get_ident()))])

    assert await result(box, "f") == ToolResult("1", "f", "null")
    assert seen != [threading.get_ident()]


async def test_an_async_function_runs_on_the_loop_with_its_types() -> None:
    box = Toolbox([tool(where)])

    answer = await result(box, "where", '{"place": {"lat": 1, "lon": 2.5}}')

    assert answer == ToolResult("1", "where", '{"lat":1.0,"lon":2.5}')


async def test_a_partial_of_an_async_function_runs_on_the_loop() -> None:
    async def scaled(by: int, arguments: dict[str, object]) -> int:
        await anyio.lowlevel.checkpoint()
        return by * len(arguments)

    box = Toolbox([bare(functools.partial(scaled, 10))])

    assert (await result(box, "f", '{"x": 1}')).text == "10"


async def test_a_number_in_quotes_is_a_number() -> None:
    answer = await result(Toolbox([tool(weather)]), "weather", '{"city": "Oslo", "days": "3"}')

    assert answer.text == "3 day(s) of C in Oslo"


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("nope", "{}", "Error: there is no tool 'nope'; there are: weather, boom, exit"),
        ("weather", "{}", "Error: bad arguments: city missing"),
        ("weather", '{"city": 7}', "Error: bad arguments: Expected `str`, got `int`"),
        ("weather", '{"city": "a", "x": 1}', "Error: bad arguments: Object contains unknown"),
        ("weather", '{"city": ', "Error: bad arguments: the arguments are no JSON"),
        ("weather", "[]", "Error: bad arguments: the arguments are no object but list"),
        ("boom", "{}", "Error: ZeroDivisionError: by zero"),
        ("exit", "{}", "Error: StopIteration"),
    ],
)
async def test_whatever_goes_wrong_is_a_result_that_says_so(
    name: str, arguments: str, says: str
) -> None:
    def stop() -> None:
        raise StopIteration

    box = Toolbox([tool(weather), tool(boom), tool(stop, name="exit")])

    answer = await result(box, name, arguments)

    assert answer.failed
    assert answer.call_id == "1"
    assert answer.text.startswith(says) or name == "exit"


async def test_a_result_that_json_cannot_say_is_a_failure() -> None:
    answer = await result(Toolbox([bare(lambda _: object())]), "f")

    assert answer.failed
    assert "TypeError" in answer.text


@pytest.mark.parametrize("stopper", [KeyboardInterrupt, SystemExit])
async def test_what_ends_the_program_is_not_contained(stopper: type[BaseException]) -> None:
    async def stop(_: dict[str, object]) -> None:
        await anyio.lowlevel.checkpoint()
        raise stopper

    with pytest.raises(stopper):
        await result(Toolbox([bare(stop)]), "f")


async def test_cancellation_is_not_contained(virtual_time: None) -> None:
    async def hang(_: dict[str, object]) -> None:
        await anyio.sleep_forever()

    with anyio.move_on_after(5) as scope:
        await result(Toolbox([bare(hang)]), "f")

    assert scope.cancelled_caught


async def test_a_tool_past_its_deadline_is_stopped(virtual_time: None) -> None:
    async def hang() -> None:
        await anyio.sleep_forever()

    start = anyio.current_time()
    answer = await result(Toolbox([tool(hang, deadline=7)]), "hang")

    assert answer.failed
    assert answer.text == "Error: it was stopped after 7 s"
    assert anyio.current_time() - start == pytest.approx(7)


async def test_a_tool_in_a_thread_is_left_behind_at_its_deadline() -> None:
    go_on = threading.Event()
    box = Toolbox([tool(lambda: go_on.wait(10), name="wait", deadline=0.01)])

    answer = await result(box, "wait")
    left_behind = not go_on.is_set()
    go_on.set()

    assert left_behind
    assert answer.text == "Error: it was stopped after 0.01 s"


async def test_a_timeout_of_the_tools_own_is_told_as_such() -> None:
    async def late() -> None:
        with anyio.fail_after(0):
            await anyio.sleep_forever()

    assert (await result(Toolbox([tool(late)]), "late")).text.startswith("Error: TimeoutError")


async def test_a_long_result_is_cut_and_says_so() -> None:
    box = Toolbox([bare(lambda _: "x" * 100)], longest=10)

    assert (await result(box, "f")).text == "x" * 10 + "\n[cut off after 10 characters]"


async def test_calls_run_side_by_side_and_are_answered_in_order(virtual_time: None) -> None:
    async def wait(seconds: float) -> float:
        await anyio.sleep(seconds)
        return seconds

    start = anyio.current_time()
    calls = [ToolCall.of(str(n), "wait", {"seconds": n}) for n in (30, 10, 20)]
    message = await Toolbox([tool(wait)]).answer(calls)

    assert message.role is Role.USER
    assert [part.text for part in message.parts if isinstance(part, ToolResult)] == [
        "30.0",
        "10.0",
        "20.0",
    ]
    assert anyio.current_time() - start == pytest.approx(30)


def test_a_box_can_be_looked_into() -> None:
    box = Toolbox([tool(weather), tool(where)])

    assert len(box) == 2
    assert [each.name for each in box] == ["weather", "where"]
