"""What the target has installed and loaded, as the poller last saw it: one immutable value."""

from dataclasses import dataclass, field

import msgspec

from foreman import names


class Installed(msgspec.Struct, frozen=True):
    """One entry of /api/tags; unknown fields are left alone."""

    name: str
    digest: str = ""
    capabilities: tuple[str, ...] | None = None
    remote_model: str | None = None

    @property
    def remote(self) -> bool:
        """A stub for a model that runs in the cloud."""
        return bool(self.remote_model)


class Loaded(msgspec.Struct, frozen=True):
    """One entry of /api/ps."""

    name: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The last good look at the target, and whether it is still reachable.

    `models` maps `names.key` to the entry; `tags` is the body of /api/tags as it came, to be
    served while the target is away. `polled_at` is wall-clock seconds, None before the first look.
    """

    models: dict[str, Installed] = field(default_factory=dict[str, Installed])
    loaded: tuple[Loaded, ...] = ()
    tags: bytes = b'{"models":[]}'
    version: bytes = b'{"version":"0.0.0"}'
    degraded: bool = True
    reason: str = "not polled yet"
    polled_at: float | None = None

    def find(self, model_key: str) -> Installed | None:
        """The installed model of that normalised name."""
        return self.models.get(model_key)

    def is_loaded(self, model_key: str) -> bool:
        """Listed by /api/ps under this name, or under another name with the same digest."""
        entry = self.models.get(model_key)
        digest = entry.digest if entry else ""
        return any(
            names.key(each.name) == model_key or (digest and each.digest == digest)
            for each in self.loaded
        )
