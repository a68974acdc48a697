"""The pages that are made from the code: `python -m foreman.reference [FOLDER]` writes them.

They are committed, and a test compares them with what this module would write.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from foreman import config, wire
from foreman.jobs import MEANINGS, TRANSITIONS, FailureCode, Requeue, State
from foreman.problem_codes import CODES
from foreman.wire import Kind

MADE = "Made by `python -m foreman.reference`; edit {source} instead."


def pages() -> dict[Path, str]:
    """Path in the repository -> its text."""
    return {
        Path("docs/reference/configuration.md"): configuration(),
        Path("docs/reference/errors.md"): errors(),
        Path("docs/reference/job-states.md"): job_states(),
        Path("docs/reference/metrics.md"): metrics(),
        Path("docs/reference/routes.md"): routes(),
        Path("deploy/.env.example"): env_example(),
    }


def descriptions() -> dict[str, str]:
    """The text under each setting, read from the source so that no start pays for it."""
    [settings] = ast.parse(inspect.getsource(config.Settings)).body
    assert isinstance(settings, ast.ClassDef)
    return {
        line.target.id: inspect.cleandoc(below.value.value)
        for line, below in pairwise(settings.body)
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(below.value.value, str)
    }


def configuration() -> str:
    """docs/reference/configuration.md."""
    lines = [
        "# Configuration",
        "",
        f"<!-- {MADE.format(source='foreman/config.py')} -->",
        "",
        "Where a setting comes from, strongest first: the environment, `.env` in the working",
        "directory, the TOML file `FOREMAN_CONFIG` names, the default. An empty value counts as",
        'not set. In TOML the keys are lower case without the prefix: `listen = "127.0.0.1:8080"`.',
        "A `FOREMAN_*` key that is not below stops the start; bare `OLLAMA_*` keys are never read.",
        "",
        "A duration is written `30s`, `5m`, `1h30m` or `250ms`, a size `64MiB` or `64MB`; a plain",
        "number is seconds or bytes. A switch is `1` or `0`. `foreman config` shows the values in",
        "effect and where each came from; secrets are hidden there, in errors and in logs.",
        "",
        "In Kubernetes, a service called `foreman` makes the cluster set `FOREMAN_PORT` and others",
        "of that kind, which are refused: give the pod `enableServiceLinks: false`.",
        "",
        "| key | default | meaning |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| `{key}` | {f'`{default}`' if default else ''} | {text} |"
        for key, default, text in _settings()
    ]
    lines += ["", "No settings of the daemon, but keys of foreman:", "", "| key | meaning |"]
    lines += ["| --- | --- |", *(f"| `{key}` | {text} |" for key, text in config.BESIDE.items())]
    return "\n".join(lines) + "\n"


def env_example() -> str:
    """deploy/.env.example: everything there is, each at its default and commented out."""
    lines = [
        "# Every setting of foreman at its default. Copy to .env and take off the # in front of",
        "# what you change. Reference: docs/reference/configuration.md",
        f"# {MADE.format(source='foreman/config.py')}",
    ]
    for key, default, text in [
        *_settings(),
        *((key, "", text) for key, text in config.BESIDE.items()),
    ]:
        lines += ["", *textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ")]
        lines.append(f"#{key}={default}")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """docs/reference/metrics.md."""
    from foreman.metrics.counts import (
        Metrics,  # loads trio, and `foreman config` reads descriptions only
    )

    lines = [
        "# Metrics",
        "",
        f"<!-- {MADE.format(source='foreman/metrics/')} -->",
        "",
        "`GET /metrics` answers in Prometheus' text format. A model is named only while the target",
        "has it installed, a route only if foreman knows it; the rest counts as `other`. What the",
        "durations mean, a dashboard and alerts: [monitoring](../how-to/monitoring.md).",
        "",
        "| metric | kind | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name, kind, labels, text in Metrics().table:
        lines.append(f"| `{name}` | {kind} | {', '.join(f'`{x}`' for x in labels)} | {text} |")
    return "\n".join(lines) + "\n"


_KINDS = {
    Kind.INFERENCE: "Queued for the worker, one at a time.",
    Kind.EMBEDDING: "Beside the queue, or as FOREMAN_EMBED_OTHER says for another model.",
    Kind.METADATA: "Never queued; tags and version from memory while the target is away.",
    Kind.ADMIN: "403 unless FOREMAN_ALLOW_ADMIN=1; then streamed both ways.",
}
_OWN = (Kind.OWN, Kind.STATUS, Kind.SUBMIT, Kind.EVENTS, Kind.RESULT)


def routes() -> str:
    """docs/reference/routes.md."""
    lines = [
        "# Routes",
        "",
        f"<!-- {MADE.format(source='foreman/wire.py')} -->",
        "",
        "Everything not listed is `404 page not found`, a wrong method 405 with `Allow`, as Ollama",
        "answers. Bodies go to the target as they came; answers come back as they are sent.",
    ]
    for kind, text in _KINDS.items():
        lines += ["", f"## {kind.value.capitalize()}", "", text, ""]
        lines += [_route(route) for route in wire.ROUTES if route.kind is kind]
    lines += ["", "## Own", "", "foreman's own, told in full by `GET /openapi.json`;"]
    lines += ["errors are application/problem+json.", ""]
    lines += [_route(route) for route in wire.ROUTES if route.kind in _OWN]
    return "\n".join(lines) + "\n"


def _route(route: wire.Route) -> str:
    return f"- `{', '.join(route.methods)} {route.path}`"


def job_states() -> str:
    """docs/reference/job-states.md."""
    lines = ["# Job states", "", f"<!-- {MADE.format(source='foreman/jobs.py')} -->"]
    lines += ["", "| state | then | meaning |", "| --- | --- | --- |"]
    for state, following in TRANSITIONS.items():
        then = ", ".join(f"`{each}`" for each in State if each in following)
        lines.append(f"| `{state}` | {then} | {MEANINGS[state]} |")
    for title, codes in (("Why a job is queued again", Requeue), ("Error codes", FailureCode)):
        lines += ["", f"## {title}", "", "| code | meaning |", "| --- | --- |"]
        lines += [f"| `{code}` | {MEANINGS[code]} |" for code in codes]
    return "\n".join(lines) + "\n"


_ERRORS = """\
On Ollama's routes, and on those of OpenAI and Anthropic, errors have the status and the shape that
the target's own would have; what the target itself answers passes through as it is.

| route | body |
| --- | --- |
| `/api/*` | `{"error": "..."}` |
| `/v1/*` | `{"error": {"message": "...", "type": "...", "param": null, "code": null}}` |
| `/v1/messages` | `{"type": "error", "error": {"type": "...", "message": "..."}}` |

Where 200 has gone out already, a stream takes one more line or event with the error, and a single
object is cut off: a client never takes half an answer for a whole one.

On foreman's own routes it is `application/problem+json` (RFC 9457), whose `type` is always
`about:blank`. A program goes by `code`, a person reads `detail`:

```json
{"type": "about:blank", "title": "Not Found", "status": 404,
 "detail": "there is no job 01M7YF3E12HZD2FM3MA5KBPYDW", "code": "job_not_found"}
```

Before any route is looked at, 403 answers a foreign `Host` or `Origin`, and 401 a token that is
wrong or missing; these have no code. 429 and most 503 carry `Retry-After`, in seconds.

## Codes of the API

| code | status | meaning |
| --- | --- | --- |
"""

_OTHER_ERRORS = """
## Other codes

[Job states](job-states.md#error-codes) has the codes of jobs that have failed,
[commands](cli.md#exit-status) the exit statuses, [foreman.llm](llm.md#errors) and the
[Python client](../how-to/python-client.md#when-something-is-wrong) what they raise.
"""


def errors() -> str:
    """docs/reference/errors.md."""
    head = f"# Errors\n\n<!-- {MADE.format(source='foreman/problem_codes.py')} -->\n\n"
    lines = [
        f"| `{name}` | {code.status or 'several'} | {code.meaning} |\n"
        for name, code in CODES.items()
    ]
    return head + _ERRORS + "".join(lines) + _OTHER_ERRORS


def _settings() -> Iterator[tuple[str, str, str]]:
    """Key, default as one would write it, description with the choices there are."""
    texts = descriptions()
    shown = config.Settings().sources()
    for name, setting in config.Settings.model_fields.items():
        key = config.PREFIX + name.upper()
        default = setting.examples[0] if setting.examples else shown[key].shown
        yield key, default, texts[name] + _choices(setting)


def _choices(setting: FieldInfo) -> str:
    if get_origin(setting.annotation) is not Literal:
        return ""
    return f" One of {', '.join(get_args(setting.annotation))}."


def write(folder: Path) -> None:
    """Write every page below `folder`."""
    for path, text in pages().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(*sys.argv[1:2]))
