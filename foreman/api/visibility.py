"""Whose job a client may see."""

from foreman.api.problems import Problem
from foreman.rows import JobRow


def visible(row: JobRow | None, job: str, owner: str | None) -> JobRow:
    """The job, for a client that sees the jobs of `owner` (None: everybody's).

    Raises Problem when there is none or it is somebody else's: nobody learns which.
    """
    if row is None or owner not in (None, row.owner):
        raise Problem(404, "job_not_found", f"there is no job {job}")
    return row
