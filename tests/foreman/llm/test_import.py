"""What a program pays for that imports the library and asks nothing yet."""

import subprocess
import sys

import pytest

import foreman.llm

HEAVY = ("httpx", "openai", "anthropic", "PIL", "sqlite_utils", "trio", "asyncio", "ulid")


def loaded_by(statement: str) -> set[str]:
    asks = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import foreman.llm",
        "import foreman.llm as llm; [getattr(llm, name) for name in llm.__all__]",
        "import foreman.llm.providers.fake",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    assert loaded_by(statement).isdisjoint(HEAVY)


def test_nothing_of_the_daemons_is_loaded() -> None:
    ours = {name for name in loaded_by("from foreman.llm import *") if name.startswith("foreman.")}

    assert {name for name in ours if not name.startswith("foreman.llm")} <= {
        "foreman.breaker",
        "foreman.errors",
    }


def test_every_public_name_is_there_and_is_listed() -> None:
    assert all(getattr(foreman.llm, name) is not None for name in foreman.llm.__all__)
    assert dir(foreman.llm) == foreman.llm.__all__


def test_a_name_that_is_not_there_says_so() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nope'"):
        _ = foreman.llm.Nope
