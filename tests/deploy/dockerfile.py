"""deploy/container/Dockerfile as a test reads it: instructions with their words, stage by stage."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/container/Dockerfile"


class Instruction(NamedTuple):
    """One instruction, its continued lines joined; `rest` is what stands behind its name."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.rest)


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, from its FROM on; those before the first are left out."""
    found: list[list[Instruction]] = []
    for instruction in _instructions():
        if instruction.name == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def image() -> dict[str, str]:
    """What the image is started with: the last stage's instructions, each as it was last given."""
    return dict(stages()[-1])


def environment() -> dict[str, str]:
    """The last stage's ENV, without PATH."""
    pairs = (
        word.partition("=") for each in stages()[-1] if each.name == "ENV" for word in each.words
    )
    return {name: value for name, _, value in pairs if name != "PATH"}


def command() -> list[str]:
    """ENTRYPOINT and CMD. Raises ValueError where one is not in exec form: a shell eats signals."""
    return [*json.loads(image()["ENTRYPOINT"]), *json.loads(image()["CMD"])]


def health() -> list[str]:
    """HEALTHCHECK's command, its files where they are copied from. Raises ValueError as above."""
    words: list[str] = json.loads(re.sub(r"^.*?CMD ", "", image()["HEALTHCHECK"]))
    copied = {into: str(ROOT / source) for source, into in copies()}
    return [copied.get(word, word) for word in words]


def copies() -> list[tuple[str, str]]:
    """What is copied out of the repository, and to where."""
    return [
        (source, each.words[-1])
        for stage in stages()
        for each in stage
        if each.name == "COPY" and not each.rest.startswith("--from=")
        for source in each.words[:-1]
    ]


def _instructions() -> Iterator[Instruction]:
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, _, rest = line.strip().partition(" ")
        if name:
            yield Instruction(name, re.sub(r" +", " ", rest))
