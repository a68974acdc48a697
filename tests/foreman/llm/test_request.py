import pytest

from foreman.llm import Options, Request, assistant, system, user


def test_a_sentence_is_a_users_message() -> None:
    assert Request.of("Hi").messages == (user("Hi"),)


def test_instructions_come_first() -> None:
    talk = [user("Hi"), assistant("Hello"), user("Bye")]

    assert Request.of(talk, instructions="Be brief.").messages == (system("Be brief."), *talk)


def test_several_system_messages_are_joined_and_taken_out_of_the_turns() -> None:
    request = Request.of([system("Be brief."), user("Hi"), system("Be kind.")])

    assert request.system == "Be brief.\n\nBe kind."
    assert request.turns == (user("Hi"),)


@pytest.mark.parametrize("messages", [(), (system("Be brief."),)])
def test_a_request_needs_somebody_who_asks(messages: tuple[()]) -> None:
    with pytest.raises(ValueError, match="needs a message"):
        Request(messages=messages)


def test_each_request_has_its_own_ulid() -> None:
    one, two = Request.of("Hi"), Request.of("Hi")

    assert len(one.id) == len(two.id) == 26
    assert one.id != two.id


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"top_k": 0},
        {"temperature": -0.1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"stop": ("",)},
    ],
)
def test_options_no_target_could_use_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="has to"):
        Options(**options)  # type: ignore[arg-type]  # wrong values are what is tested


def test_nothing_has_to_be_filled_in() -> None:
    assert Options() == Options(max_tokens=None, stop=(), json=False, vendor={})
