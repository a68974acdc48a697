"""What is installed: the engine's models, and what copies and deletions made of them."""

from collections.abc import Iterator
from dataclasses import replace

from foreman import names
from foreman.embedded.engine import Engine, Model


class Installed:
    """The catalogue, by normalised name. A new set of models from the engine starts it anew."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._base: tuple[Model, ...] = ()
        self._models: dict[str, Model] = {}

    def __iter__(self) -> Iterator[Model]:
        return iter(tuple(self._current().values()))

    def find(self, name: str) -> Model | None:
        """The model of that name in any spelling. Raises InvalidName."""
        return self._current().get(names.key(name))

    def copy(self, model: Model, name: str, *, system: str = "", modified_at: str = "") -> Model:
        """Install the same weights under another name; it may bring its own system prompt."""
        made = replace(
            model,
            name=names.display(name),
            system=system or model.system,
            modified_at=modified_at or model.modified_at,
            parent=model.name if system else model.parent,
        )
        self._current()[made.key] = made
        return made

    def remove(self, model: Model) -> None:
        """Delete the name; other names of the same weights stay."""
        self._current().pop(model.key, None)

    def _current(self) -> dict[str, Model]:
        if self._base is not self._engine.models:
            self._base = self._engine.models
            self._models = {model.key: model for model in self._base}
        return self._models
