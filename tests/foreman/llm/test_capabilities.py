import pytest

from foreman.llm import (
    Capabilities,
    Image,
    ImageLimits,
    Options,
    Request,
    Tool,
    ToolCall,
    assistant,
    user,
)
from foreman.llm.capabilities import prompt_estimate

PICTURE = Image("image/png", b"x" * 1000, 640, 480)
TOOL = Tool(name="f", description="", parameters={"type": "object"}, run=lambda _: None)


def test_a_model_nobody_described_lacks_nothing() -> None:
    everything = Request.of(user("Hi", PICTURE), tools=[TOOL], options=Options(json=True))

    assert Capabilities().lacks(everything) == ""


@pytest.mark.parametrize(
    ("capabilities", "request_", "lacking"),
    [
        (Capabilities(tools=False), Request.of("Hi", tools=[TOOL]), "tools"),
        (Capabilities(images=None), Request.of(user(PICTURE)), "images"),
        (Capabilities(json=False), Request.of("Hi", options=Options(json={})), "JSON"),
        (Capabilities(context=100), Request.of("x" * 400), "room for the prompt (its window has"),
    ],
)
def test_what_is_missing_has_a_name(
    capabilities: Capabilities, request_: Request, lacking: str
) -> None:
    assert capabilities.lacks(request_).startswith(lacking)


def test_what_is_not_needed_is_not_missed() -> None:
    poor = Capabilities(tools=False, images=None, json=False, context=100, streaming=False)

    assert poor.lacks(Request.of("x" * 399)) == ""


def test_options_a_model_does_not_know_are_left_out() -> None:
    asked = Options(
        max_tokens=500, temperature=1, top_p=0.5, top_k=4, seed=1, stop=("a",), thinking=True
    )
    poor = Capabilities(
        temperature=False, top_p=False, top_k=False, seed=False, stop=False, thinking=False
    )

    assert poor.adapt(asked) == Options(max_tokens=500)
    assert Capabilities().adapt(asked) == asked


@pytest.mark.parametrize(("asked", "sent"), [(500, 100), (50, 50), (None, None)])
def test_an_answers_length_is_clamped_but_never_made_up(
    asked: int | None, sent: int | None
) -> None:
    assert Capabilities(max_output=100).adapt(Options(max_tokens=asked)).max_tokens == sent


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        (ImageLimits(), True),
        (ImageLimits(edge=640, size=1000), True),
        (ImageLimits(edge=639), False),
        (ImageLimits(size=999), False),
        (ImageLimits(media_types=frozenset({"image/jpeg"})), False),
    ],
)
def test_limits_on_pictures_are_inclusive(limits: ImageLimits, allowed: bool) -> None:
    assert limits.allows(PICTURE) is allowed


def test_a_prompt_is_estimated_at_a_quarter_of_its_characters() -> None:
    assert prompt_estimate(Request.of("x" * 400)) == 100
    assert prompt_estimate(Request.of("x")) == 1
    assert prompt_estimate(Request.of("ü" * 8)) == 2


def test_every_part_that_is_text_counts_for_the_estimate() -> None:
    call = ToolCall("1", "f", '{"a": 1}')

    assert prompt_estimate(Request.of([assistant("four", call), user("four", PICTURE)])) == 4
