import pytest
import typer

from foreman.cli.exits import Exit
from foreman.cli.terminal import duration, exit_status


@pytest.mark.parametrize("how", [KeyboardInterrupt, typer.Abort])
def test_an_interrupt_ends_alike_at_work_and_at_a_question(how: type[BaseException]) -> None:
    with pytest.raises(typer.Exit) as ended, exit_status():
        raise how
    assert ended.value.exit_code == Exit.INTERRUPTED


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
