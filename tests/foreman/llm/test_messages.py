import msgspec
import pytest

from foreman.llm import (
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
from foreman.llm.messages import Part

PIXEL = Image("image/gif", b"GIF89a", 1, 1)
CALL = ToolCall("1", "weather")
RESULT = ToolResult("1", "weather", "rain")
THOUGHT = Thinking("hm", "fake", "seal")


@pytest.mark.parametrize(
    ("role", "part"),
    [
        (Role.SYSTEM, PIXEL),
        (Role.SYSTEM, CALL),
        (Role.SYSTEM, RESULT),
        (Role.SYSTEM, THOUGHT),
        (Role.USER, CALL),
        (Role.USER, THOUGHT),
        (Role.ASSISTANT, PIXEL),
        (Role.ASSISTANT, RESULT),
    ],
)
def test_a_role_says_only_what_it_can(role: Role, part: Part) -> None:
    with pytest.raises(ValueError, match=f"{type(part).__name__} cannot be the {role}'s"):
        Message(role, (part,))


def test_strings_become_texts() -> None:
    assert user("What is ", PIXEL, "this?").parts == (Text("What is "), PIXEL, Text("this?"))
    assert system("Be brief.").role is Role.SYSTEM


def test_a_message_knows_its_text_calls_and_pictures() -> None:
    said = assistant(THOUGHT, "Let me ", "look.", CALL)

    assert said.text == "Let me look."
    assert said.tool_calls == (CALL,)
    assert user(PIXEL, RESULT).images == (PIXEL,)


def test_calls_without_a_word_have_no_text_part() -> None:
    assert assistant(CALL).text == ""
    assert not any(isinstance(part, Text) for part in assistant(CALL).parts)


def test_arguments_keep_their_order_and_their_words() -> None:
    call = ToolCall.of("1", "f", {"z": 1, "a": "ü"})

    assert call.arguments_json == '{"z":1,"a":"ü"}'
    assert list(call.arguments) == ["z", "a"]


@pytest.mark.parametrize("wording", ['{"city": ', "[1]", '"x"', "null", "\x00"])
def test_arguments_that_are_no_object_say_so(wording: str) -> None:
    with pytest.raises(ValueError, match="the arguments are no"):
        _ = ToolCall("1", "f", wording).arguments


def test_no_arguments_are_an_empty_object() -> None:
    assert ToolCall("1", "f", "").arguments == {}


def test_a_conversation_survives_being_written_down() -> None:
    talk = (user("Hi", PIXEL, RESULT), assistant(THOUGHT, "Hello", CALL))

    written = msgspec.json.encode(talk)

    assert msgspec.json.decode(written, type=tuple[Message, ...]) == talk


def test_a_picture_shows_its_size_and_not_its_bytes() -> None:
    assert repr(PIXEL) == "Image(image/gif, 1x1, 6 bytes)"
