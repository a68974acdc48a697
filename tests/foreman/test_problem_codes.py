"""The table of error codes has all that the API says, with their statuses, and no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

from foreman.api import problems
from foreman.errors import ForemanError, KeyReused
from foreman.problem_codes import CODES

API = Path(problems.__file__).parent


def raised() -> Iterator[tuple[str, int | None]]:
    """Code and status of each Problem that is made in the API; None where it is worked out."""
    for file in API.glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match call:
                case ast.Call(
                    func=ast.Name("Problem"), args=[status, ast.Constant(value=str() as code), *_]
                ):
                    known = status.value if isinstance(status, ast.Constant) else None
                    yield code, known if isinstance(known, int) else None


def of_the_store() -> Iterator[tuple[str, int | None]]:
    yield from ((code, status) for status, code, _ in problems._OF_THE_STORE.values())
    other = problems.store_problem(ForemanError("anything else"))
    yield other.code, other.status


def test_every_code_has_its_line_and_its_status() -> None:
    said = {*raised(), *of_the_store()}
    assert {code for code, _ in said} == CODES.keys()
    for code, status in said:
        assert status in (None, CODES[code].status), code


def test_what_the_store_says_is_one_of_them() -> None:
    problem = problems.store_problem(KeyReused("01"))
    assert (problem.code, problem.status) == ("idempotency_mismatch", 422)
    assert CODES["idempotency_mismatch"].status == 422
