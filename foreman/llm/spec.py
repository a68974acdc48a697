"""The grammar of specs: which models to ask, in which order.

    spec     = element *("," element)             white space around an element counts for nothing
    element  = provider "/" model                 the first slash divides; the model is verbatim
             / alias                              a name for another spec, expanded in its place

A target named twice keeps its first place. An alias may use others, but never itself.
"""

from collections.abc import Iterator, Mapping

import msgspec

from foreman.llm.errors import SpecError


class Target(msgspec.Struct, frozen=True):
    """One model of one provider."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class Alias(msgspec.Struct, frozen=True):
    """A name that stands for a spec."""

    name: str


def parse(spec: str) -> tuple[Target | Alias, ...]:
    """The elements as they stand. Raises SpecError with the column, counted from 1.

    >>> parse("openrouter/meta-llama/Llama-3.1:free, fast")
    (Target(provider='openrouter', model='meta-llama/Llama-3.1:free'), Alias(name='fast'))
    """
    elements: list[Target | Alias] = []
    column = 1
    for piece in spec.split(","):
        text = piece.strip()
        where = column + len(piece) - len(piece.lstrip())
        elements.append(_element(text, f"column {where if text else column} of {spec!r}"))
        column += len(piece) + 1
    return tuple(elements)


def _element(text: str, where: str) -> Target | Alias:
    if not text:
        raise SpecError(f"{where}: a target such as provider/model, or an alias, has to stand here")
    provider, slash, model = text.partition("/")
    if not slash:
        return Alias(text)
    if not provider.strip():
        raise SpecError(f"{where}: there is no provider before the slash")
    if not model.strip():
        raise SpecError(f"{where}: there is no model after the slash")
    return Target(provider.rstrip(), model.lstrip())


def expand(
    elements: tuple[Target | Alias, ...], aliases: Mapping[str, tuple[Target | Alias, ...]]
) -> tuple[Target, ...]:
    """The targets, each once. Raises SpecError for a cycle, which it names, or an unknown alias.

    >>> aliases = {"thinking": parse("m5/b, claude/x")}
    >>> [str(target) for target in expand(parse("m1/a,m5/b,thinking"), aliases)]
    ['m1/a', 'm5/b', 'claude/x']
    """
    done: set[str] = set()  # what they brought is there already; so a diamond costs nothing

    def walk(inner: tuple[Target | Alias, ...], path: tuple[str, ...]) -> Iterator[Target]:
        for element in inner:
            if isinstance(element, Target):
                yield element
            elif element.name not in done:
                _refuse_cycle(element.name, path)
                yield from walk(_known(element.name, path, aliases), (*path, element.name))
                done.add(element.name)

    return tuple(dict.fromkeys(walk(elements, ())))


def _refuse_cycle(name: str, path: tuple[str, ...]) -> None:
    if name in path:
        cycle = (*path[path.index(name) :], name)
        raise SpecError(f"the aliases refer to each other in a circle: {' -> '.join(cycle)}")


def _known(
    name: str, path: tuple[str, ...], aliases: Mapping[str, tuple[Target | Alias, ...]]
) -> tuple[Target | Alias, ...]:
    if name not in aliases:
        used = f", used by {path[-1]!r}," if path else ""
        known = ", ".join(sorted(aliases)) or "none is defined"
        hint = "; a target is written provider/model"
        raise SpecError(f"there is no alias {name!r}{used} among: {known}{hint}")
    return aliases[name]
