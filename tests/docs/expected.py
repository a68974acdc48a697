"""Whether a program printed what a page shows: to the letter, but for what no two runs share."""

import re

_ALIKE = {  # what differs from run to run -> what stands for it on both sides
    r"(?<![0-9A-Z])[0-7][0-9A-HJKMNP-TV-Z]{25}(?![0-9A-Z])": "ULID",
    r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?": "DATE",
    r"\b\d\d:\d\d:\d\d\b": "TIME",
    r"\b\d+(\.\d+)?(e-\d+)? ?(ms|s|min|h)\b": "DURATION",
    r"\b\d+(\.\d+)? ?(kB|KB|KiB|MB|MiB|GB|GiB)\b": "SIZE",
    r"\b[0-9a-f]{64}\b": "SHA256",
    r"[ \t]+": " ",
    r"[ \t]+$": "",
}


def alike(text: str) -> str:
    """The text without ids, times, durations, sizes, and the width of its columns."""
    for pattern, word in _ALIKE.items():
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text.strip("\n")


def pattern(shown: str) -> re.Pattern[str]:
    """What `alike` output has to match; `...` is anything in its line, or any lines if alone."""
    lines = [
        ".*" if line.strip() == "..." else _line(line) + r"\n" for line in alike(shown).split("\n")
    ]
    return re.compile("".join(lines).removesuffix(r"\n"), re.DOTALL)


def _line(line: str) -> str:
    return "[^\n]*".join(re.escape(part) for part in line.split("..."))
