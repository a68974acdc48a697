"""`foreman serve` whose disk hangs for ever at the first commit after its file has appeared."""

import sys
import threading
from pathlib import Path
from typing import Any

from actors.__main__ import main
from foreman.commit import Committed, Committer


def _hang_when_there_is(file: Path) -> None:
    commit = Committer.commit

    def hanging(*arguments: Any) -> Committed:
        if file.exists():
            file.unlink()  # the next process is to find a disk that works
            threading.Event().wait()
        return commit(*arguments)

    setattr(Committer, "commit", hanging)  # noqa: B010  as a method it has another type


if __name__ == "__main__":
    _hang_when_there_is(Path(sys.argv[1]))
    sys.argv = ["foreman", "serve"]
    main()
