"""The examples in the docstrings of foreman.llm, `await` and all, under both loops."""

import ast
import contextlib
import doctest
import io
import pkgutil
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import pytest

import foreman.llm

if TYPE_CHECKING:
    from collections.abc import Awaitable


MODULES = [each.name for each in pkgutil.walk_packages(foreman.llm.__path__, "foreman.llm.")]


async def _outcome(source: str, names: dict[str, Any]) -> str:
    """What it prints, or the last line of what it raises."""
    code = compile(source, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            result = eval(code, names)  # noqa: S307 - our own docstrings
            if result is not None:
                await cast("Awaitable[None]", result)
        except Exception as error:  # noqa: BLE001 - compared with the example
            return traceback.format_exception_only(error)[0]
    return printed.getvalue()


@pytest.mark.parametrize("module", MODULES)
async def test_what_a_docstring_shows_is_what_happens(module: str) -> None:
    for example in doctest.DocTestFinder().find(import_module(module)):
        await _hold(example)


async def _hold(example: doctest.DocTest) -> None:
    """One docstring's examples, which share their names; the public ones are there already."""
    public = {name: getattr(foreman.llm, name) for name in foreman.llm.__all__}
    names = {**public, **example.globs}
    for each in example.examples:
        got = await _outcome(each.source, names)
        want = each.want if each.exc_msg is None else each.exc_msg
        assert doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS), (
            f"{example.name}, line {each.lineno}: {each.source!r} gave {got!r}"
        )
