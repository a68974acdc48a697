"""What a call took, in tokens, and how such figures add up."""

import msgspec


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one call or of several, in four parts that never overlap.

    A part is None when the target did not say; that is not 0, and no sum makes it one. A target
    without a prompt cache says 0 for the cache's parts: `Usage.uncached`.

    >>> call = Usage(input=100, cache_read=500, cache_write=100, output=50)
    >>> call.total
    750
    >>> (call + Usage(output=5)).input is None
    True
    >>> sum([call, call], Usage.none()).output
    100

    Raises ValueError for a part below 0.
    """

    input: int | None = None
    """Fresh tokens of the prompt: neither read from a cache nor written to one."""
    cache_read: int | None = None
    cache_write: int | None = None
    output: int | None = None
    """Tokens the model made, its thinking included."""

    def __post_init__(self) -> None:
        for part in self.parts:
            if part is not None and part < 0:
                raise ValueError(f"no part of a usage is below 0: {self}")

    @classmethod
    def none(cls) -> "Usage":
        """Nothing was used, and that is known: where a sum starts."""
        return cls(input=0, cache_read=0, cache_write=0, output=0)

    @classmethod
    def uncached(cls, *, input: int | None, output: int | None) -> "Usage":  # noqa: A002
        """What a target without a prompt cache reports."""
        return cls(input=input, cache_read=0, cache_write=0, output=output)

    @classmethod
    def including_cache(
        cls, *, prompt: int | None, cache_read: int | None, output: int | None
    ) -> "Usage":
        """From a count of the prompt that includes what came out of the cache.

        With `cache_read` unknown the fresh part is unknown as well.
        """
        fresh = None if prompt is None or cache_read is None else max(0, prompt - cache_read)
        return cls(input=fresh, cache_read=cache_read, cache_write=0, output=output)

    @property
    def parts(self) -> tuple[int | None, int | None, int | None, int | None]:
        """Input, cache read, cache write, output."""
        return self.input, self.cache_read, self.cache_write, self.output

    @property
    def prompt(self) -> int | None:
        """All the model read, cached or not."""
        return _sum(_sum(self.input, self.cache_read), self.cache_write)

    @property
    def total(self) -> int | None:
        """All four parts; None when one of them is unknown."""
        return _sum(self.prompt, self.output)

    def __add__(self, other: "Usage") -> "Usage":
        """Part by part; what is unknown in one is unknown in the sum."""
        return Usage(
            input=_sum(self.input, other.input),
            cache_read=_sum(self.cache_read, other.cache_read),
            cache_write=_sum(self.cache_write, other.cache_write),
            output=_sum(self.output, other.output),
        )

    def updated(self, later: "Usage") -> "Usage":
        """For a stream whose reports are cumulative: what `later` knows replaces, nothing adds."""
        return Usage(
            input=self.input if later.input is None else later.input,
            cache_read=self.cache_read if later.cache_read is None else later.cache_read,
            cache_write=self.cache_write if later.cache_write is None else later.cache_write,
            output=self.output if later.output is None else later.output,
        )
