import pytest

from foreman.llm import Image, Message, Request, assistant, system, user
from foreman.llm.complexity import Complexity, Weights
from foreman.llm.tiers import Tier

SCORING = Complexity()
CODE = "```\nx\n```\n"
RICH = f"{CODE * 3}refactor debug design /a/b.py /a/c.py d.rs "


def conversation(characters: int, messages: int, text: str = "") -> Request:
    """So many characters in so many messages, `text` among them."""
    turns: list[Message] = [user(".") for _ in range(messages - 1)]
    body = text + "." * (characters - len(text) - len(turns))
    return Request.of([*turns, user(body)])


@pytest.mark.parametrize(
    ("characters", "messages", "text", "score", "tier"),
    [
        (25, 1, "", 0.0248, Tier.LOCAL),
        (4000, 1, "", 0.1152, Tier.LOCAL),
        (20_000, 20, "", 0.3998, Tier.LOCAL),
        (100, 1, RICH, 0.6254, Tier.STANDARD),
        (400, 6, RICH, 0.7126, Tier.FRONTIER),
        (2, 1, "hi", 1.0, Tier.FRONTIER),
    ],
)
def test_the_figures(characters: int, messages: int, text: str, score: float, tier: Tier) -> None:
    found = SCORING.score(conversation(characters, messages, text))
    assert round(found, 4) == score
    assert SCORING.tier(found) is tier


@pytest.mark.parametrize(
    ("score", "tier"),
    [
        (0.3999, Tier.LOCAL),
        (0.4, Tier.STANDARD),
        (0.7, Tier.STANDARD),
        (0.71, Tier.FRONTIER),
    ],
)
def test_both_thresholds_are_standard(score: float, tier: Tier) -> None:
    assert SCORING.tier(score) is tier


def signal(request: Request, **weights: float) -> float:
    """One signal alone."""
    only = {"length": 0.0, "code": 0.0, "files": 0.0, "analysis": 0.0, "turns": 0.0, **weights}
    return Complexity(weights=Weights(**only)).score(request)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("no code in here at all", 0),
        (CODE, 1),
        (CODE * 2 + "~~~\nx\n~~~\n", 3),
        (CODE * 9, 3),
        ("```never closed, so no block", 0),
    ],
)
def test_fenced_blocks_are_counted_up_to_three(text: str, count: int) -> None:
    assert signal(Request.of(text + " " * 10), code=1.0) == pytest.approx(count / 3)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("this and/or that, 24/7, at once", 0),
        ("only main.py and other.py", 1),
        ("main.py and lib.rs and a.json", 3),
        ("src/main.py twice: src/main.py", 2),
        ("see https://example.com/a for more", 0),
    ],
)
def test_distinct_paths_and_extensions_are_counted(text: str, count: int) -> None:
    assert signal(Request.of(text), files=1.0) == pytest.approx(count / 3)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("analyse and analyze and ANALYSIS", 1),
        ("please debug, then optimise this", 2),
        ("undesigned prereview, nothing else", 0),
    ],
)
def test_distinct_words_that_ask_for_analysis_are_counted(text: str, count: int) -> None:
    assert signal(Request.of(text), analysis=1.0) == pytest.approx(count / 3)


def test_a_program_adds_words_of_its_own() -> None:
    scoring = Complexity(
        weights=Weights(length=0, code=0, files=0, turns=0), extra_keywords=("C++",)
    )
    assert scoring.score(Request.of("Some more C++ for me")) == pytest.approx(1 / 3)


def test_without_weights_everything_is_hard() -> None:
    assert signal(Request.of("a long enough sentence")) == 1.0


def test_every_text_part_is_read_and_no_picture() -> None:
    picture = Image("image/png", b"x" * 9999, 1, 1)
    parts = Request.of([system("Be"), user("main.py ", picture, "lib.rs"), assistant("go on")])
    assert signal(parts, files=1.0) == pytest.approx(2 / 3)


@pytest.mark.parametrize("wrong", [{"low": 0.8}, {"weights": Weights(code=-1)}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="low <= high"):
        Complexity(**wrong)  # type: ignore[arg-type]
