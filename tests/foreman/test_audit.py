"""The check after a crash does not outlast anybody's patience; its findings are in test_tables."""

import logging
import sqlite3

import pytest

from foreman.audit import quick_check


def test_a_check_that_takes_too_long_is_cut_short_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (a)")
    connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1000)])
    connection.set_progress_handler(lambda: 1, 10)  # as connection.interrupt does
    with caplog.at_level(logging.WARNING):
        assert quick_check(connection) == ["ok"]
    assert "its newest jobs were checked" in caplog.text
    connection.close()


def test_what_is_sound_is_ok() -> None:
    connection = sqlite3.connect(":memory:")
    assert quick_check(connection) == ["ok"]
    connection.close()
