"""What `foreman demo` shows: a table that lives while the five chats run, or plain lines."""

from dataclasses import dataclass, field

import trio
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from foreman.jobs import JobId
from foreman.queue_view import QueueView


@dataclass(slots=True)
class Chat:
    """One of the five, as its client sees it; times in seconds since the demo began."""

    number: int
    model: str
    prompt: str
    asked: float = 0.0
    job: JobId | None = None
    first: float | None = None
    ended: float | None = None
    text: str = ""
    tokens: int = 0
    state: str = "asking"


@dataclass(slots=True)
class Embedding:
    """The embedding that was asked for in the middle of it all."""

    seconds: float | None = None
    dimensions: int = 0
    during: str = ""


@dataclass(slots=True)
class Show:
    """Everything on the screen."""

    url: str
    chats: list[Chat]
    embedding: Embedding = field(default_factory=Embedding)
    queue: QueueView | None = None
    answering: trio.Event = field(default_factory=trio.Event)  # some chat has its first token

    def see(self, queue: QueueView) -> None:
        """Note where each chat stands."""
        self.queue = queue
        places: dict[JobId | None, int] = {call.id: call.position for call in queue.calls}
        for chat in self.chats:
            if chat.ended is not None:
                chat.state = "done"
            elif queue.running and queue.running.id == chat.job:
                chat.state = str(queue.running.state)
            elif chat.job in places:
                chat.state = f"place {places[chat.job]} in line"


_STYLES = {"done": "green", "working": "bold yellow", "loading": "bold magenta"}


def screen(show: Show) -> RenderableType:
    """The live view."""
    table = Table(expand=True, header_style="dim", border_style="dim")
    table.add_column("chat", justify="right")
    table.add_column("model", no_wrap=True)
    table.add_column("state", no_wrap=True, min_width=16)
    table.add_column("waited", justify="right")
    table.add_column("tokens", justify="right")
    table.add_column("answer", ratio=1, no_wrap=True, overflow="ellipsis")
    for chat in show.chats:
        waited = "" if chat.first is None else f"{chat.first - chat.asked:.1f} s"
        state = Text(chat.state, style=_STYLES.get(chat.state, "cyan"))
        tokens = str(chat.tokens) if chat.tokens else ""
        answer = Text(" ".join(chat.text.split()), style="dim")
        table.add_row(str(chat.number), chat.model, state, waited, tokens, answer)
    return Group(Text(f"foreman on {show.url}", style="bold"), table, *map(Text, facts(show)))


class Lines:
    """The same for a log or a pipe: a line whenever a chat's state has changed."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._printed: dict[int, str] = {}

    def print_news(self) -> None:
        for chat in self._show.chats:
            if chat.state not in ("asking", self._printed.get(chat.number)):
                self._printed[chat.number] = chat.state
                print(f"chat {chat.number}  {chat.model:<22} {chat.state}", flush=True)


def facts(show: Show) -> list[str]:
    """The two things the demo is about, in words."""
    lines: list[str] = []
    if show.embedding.seconds is not None:
        lines.append(
            f"An embedding was answered in {show.embedding.seconds * 1000:.0f} ms"
            f" while {show.embedding.during}: it never queues."
        )
    if show.queue and show.queue.fcfs_loads:
        lines.append(
            f"Model loads: {show.queue.loads}. First come, first served would have taken"
            f" {show.queue.fcfs_loads}."
        )
    return lines


def answers(show: Show) -> list[str]:
    """What the model said."""
    return [
        f"[{chat.number}] {chat.model}: {chat.prompt}\n    {' '.join(chat.text.split())}"
        for chat in show.chats
    ]


def try_it(url: str, model: str) -> str:
    """A line to paste into another terminal."""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Tell me a joke."}}]}}'
    return f"curl {url}/api/chat -d '{body}'"
