"""Durations as people and Go write them: `300ms`, `1h30m`, `-1s`."""

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([a-zµ]*)")


def go_duration(text: str) -> float:
    """Seconds of a Go duration string. Raises ValueError with the text Go gives."""
    rest = text.lstrip("+-") if text[:1] in "+-" else text
    if rest == "0":
        return 0.0
    seconds, end = 0.0, 0
    for part in _PART.finditer(rest):
        if part.start() != end:
            break
        number, unit = part.groups()
        if not unit:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit not in _UNITS:
            raise ValueError(f'time: unknown unit "{unit}" in duration "{text}"')
        seconds += float(number) * _UNITS[unit]
        end = part.end()
    if not rest or end != len(rest):
        raise ValueError(f'time: invalid duration "{text}"')
    return -seconds if text.startswith("-") else seconds
