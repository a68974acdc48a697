"""Import a library without the optional ones it would load for features nobody uses here.

structlog loads rich (tracebacks in colour) and httpx its own command line (rich, click, pygments):
0.1 to 0.2 seconds of every start. Both treat a missing one as "not installed"; this is how it is
missing for a moment. For module level only: an import in another thread would miss them as well.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Inside the block, importing one of `modules` raises ImportError, unless it is loaded."""
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # documented to mean "not there"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
