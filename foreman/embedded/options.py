"""The `options` of a request: their types, and those among them that a runner is loaded with."""

from collections.abc import Mapping

from foreman.embedded.engine import Json, RunnerOptions
from foreman.embedded.failures import Failed
from foreman.embedded.go import quote

_RUNNER_INTEGERS = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict"}
)
_INTEGERS = _RUNNER_INTEGERS | {"num_keep", "seed", "num_predict", "top_k", "repeat_last_n"}
_FLOATS = frozenset(
    {
        "top_p",
        "min_p",
        "typical_p",
        "temperature",
        "repeat_penalty",
        "presence_penalty",
        "frequency_penalty",
    }
)


def runner_options(options: Mapping[str, Json], *, shift: bool = True) -> RunnerOptions:
    """What to load the runner with. Raises Failed for a wrong type: with 500, as Ollama does."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        _check(name, value)
    numbers = {name: int(value) for name, value in given.items() if name in _RUNNER_INTEGERS}
    return RunnerOptions(**numbers, use_mmap=given.get("use_mmap"), shift=shift)


def _check(name: str, value: Json) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _INTEGERS and not number:
        wanted = "integer"
    elif name in _FLOATS and not number:
        wanted = "float32"
    elif name == "use_mmap" and not isinstance(value, bool):
        wanted = "boolean"
    elif name == "stop" and not isinstance(value, list):
        wanted = "array"
    else:
        return
    raise Failed(500, f"option {quote(name)} must be of type {wanted}")
