"""What a check may say: that all is well, what it found, or why it could not look."""

from dataclasses import dataclass, fields
from enum import IntEnum
from string import Formatter


class Severity(IntEnum):
    """How bad it is; the worst of all findings decides the exit status."""

    OK = 0
    NOTE = 1  # works, but somebody should know
    WARNING = 2  # works today
    PROBLEM = 3  # does not work, or will not survive what it should

    @property
    def word(self) -> str:
        """As it is printed."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, in words. `advice` may have several lines."""

    code: str
    severity: Severity
    found: str
    why: str
    advice: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One thing that may be found; called with the facts, it is a Finding.

    `found`, `why` and `advice` name the facts in braces. All that is known of a finding stands
    here: the command, the documentation and the tests read it.
    """

    code: str
    severity: Severity
    found: str
    why: str
    advice: str

    def __call__(self, **facts: object) -> Finding:
        """The finding with these facts in it."""
        texts = (text.format_map(facts) for text in (self.found, self.why, self.advice))
        return Finding(self.code, self.severity, *texts)

    @property
    def facts(self) -> set[str]:
        """The names in braces."""
        texts = [getattr(self, each.name) for each in fields(self)[2:]]
        return {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}


@dataclass(frozen=True, slots=True)
class Fine:
    """Something was looked at and is as it should be."""

    text: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something could not be looked at; `text` says what and why."""

    text: str


Outcome = Finding | Fine | Unseen


class CannotLookError(Exception):
    """A check lacks what it looks at; the text says why. It ends as Unseen."""
