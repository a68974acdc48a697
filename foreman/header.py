"""What the first bytes of a file say: whether it is a database of ours, and of which schema."""

from pathlib import Path

from foreman.errors import StoreRefused
from foreman.schema import APPLICATION_ID, USER_VERSION

RECOVER = "`foreman recover` saves what can be saved, from it and the newest backup"


def read_version(path: Path) -> int:
    """The schema of this file, looked at before SQLite does, which may change a foreign database.

    Raises StoreRefused for a file that is no database of foreman's, or of a newer one.
    """
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise StoreRefused(path, f"cannot be read: {error.strerror}") from error
    if not header:
        raise StoreRefused(path, f"is empty: it was truncated. {RECOVER}")
    if not header.startswith(b"SQLite format 3\0") or len(header) < 100:
        raise StoreRefused(path, f"is not an SQLite database, or its start is damaged. {RECOVER}")
    application, version = _number(header, 68), _number(header, 60)
    if application != APPLICATION_ID:
        raise StoreRefused(path, f"belongs to another program (application id {application:#x})")
    check_version(path, version)
    return version


def _number(header: bytes, offset: int) -> int:
    return int.from_bytes(header[offset : offset + 4], "big")


def check_version(path: Path, version: int) -> None:
    """Raises StoreRefused for a schema that only a newer foreman knows."""
    if version > USER_VERSION:
        raise StoreRefused(
            path,
            f"was written by a newer foreman (schema {version}, this one knows {USER_VERSION})",
        )
