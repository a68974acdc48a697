"""Following the daemon through a restart: when to try again, and what is said meanwhile."""

import random
import time

from foreman.cli.connection import Lost, Refused, Silent, Unreachable
from foreman.cli.terminal import say
from foreman.errors import ForemanError

FIRST_PAUSE = 0.25  # seconds; doubled at each failure
LONGEST_PAUSE = 5.0
PASSING = {502, 503, 504}  # what a proxy says for a daemon that is about to come back


class Outage:
    """Counts failures in a row. The first is repaired without a word, the second is told."""

    def __init__(self) -> None:
        self._reached = False
        self._told = False
        self._failures = 0

    def struck(self, error: ForemanError) -> None:
        """Return when it is time to try again.

        Raises `error` when there is no point: nobody was there from the start, or it was a no.
        """
        if isinstance(error, Silent):
            if self._reached:
                return  # nothing happened for a while
            raise error
        self._reached = self._reached or isinstance(error, Lost)  # there was somebody to lose
        passing = isinstance(error, Unreachable) or (
            isinstance(error, Refused) and error.status in PASSING
        )
        if not (passing and self._reached):
            raise error
        self._failures += 1
        if self._failures == 1:
            return
        if not self._told:
            self._told = True
            say(f"foreman: {error}. Waiting for it to come back (Ctrl-C ends)")
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self._failures - 2))
        time.sleep(pause * random.uniform(0.5, 1.0))

    def connected(self) -> None:
        """The daemon answers."""
        self._reached = True
        if self._told:
            self._told = False
            say("foreman: it is back")

    def over(self) -> None:
        """Something came: the next failure is the first of its kind."""
        self.connected()
        self._failures = 0
