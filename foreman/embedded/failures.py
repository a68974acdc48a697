"""How a call can fail on purpose, before its answer began."""


class Failed(Exception):
    """The call is answered with this status and text, in the words of its dialect."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Unauthorized(Exception):
    """The call is for the cloud, and nobody is signed in."""
