from functools import partial

import pytest
import typer

from foreman.cli.exits import Exit
from foreman.cli.terminal import duration, exit_status


def at_work() -> None:
    raise KeyboardInterrupt


def asked(monkeypatch: pytest.MonkeyPatch, answer: str | type[BaseException]) -> None:
    def type_in(prompt: str) -> str:
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr("typer._click.termui.visible_prompt_func", type_in)
    typer.confirm("Go on?", abort=True)


def test_ctrl_c_ends_alike_at_work_and_at_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    for interrupted in (at_work, partial(asked, monkeypatch, KeyboardInterrupt)):
        with pytest.raises(typer.Exit) as ended, exit_status():
            interrupted()
        assert ended.value.exit_code == Exit.INTERRUPTED


@pytest.mark.parametrize("answer", ["n", EOFError])
def test_a_no_and_no_answer_are_no_interrupt(
    monkeypatch: pytest.MonkeyPatch, answer: str | type[BaseException]
) -> None:
    with pytest.raises(typer.Exit) as ended, exit_status():
        asked(monkeypatch, answer)
    assert ended.value.exit_code == Exit.REFUSED


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (12.9, "12s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (86_399, "23h59m"),
        (86_400, "1d00h"),
        (9_000_000, "104d04h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text
