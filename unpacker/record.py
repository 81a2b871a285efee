"""Values with named fields: what `dataclasses` makes, without what it costs to make them.

A run of this program lasts tenths of a second, and importing `dataclasses` (which brings `inspect`, `ast`, `dis` and
`tokenize`) and letting it write the source of some forty classes took 40 ms of each; this takes 1.  The functions of
`dataclasses` work on records all the same, as does every type checker::

    class Rectangle(Record):
        width: int
        height: int = 1

    Rectangle(width=3) == Rectangle(width=3, height=1)
    dataclasses.replace(Rectangle(width=3), height=2)

Fields are the annotated names of a class and its bases, in order; those with a value may be left out.  They are given
by keyword, but those of a class with ``kw_only=False`` by position, too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, NoReturn, Self, dataclass_transform
else:

    def dataclass_transform(**_options):  # noqa: ANN003, ANN201 -- a word to type checkers only
        """Mark nothing."""
        return lambda cls: cls


class Fields:
    """The fields that a class and its bases declare.

    Attributes:
        names: All of them.
        positional: Those that may be given by position.
    """

    __slots__ = ("names", "positional")

    def __init__(self, names: tuple[str, ...] = (), positional: tuple[str, ...] = ()) -> None:
        self.names = names
        self.positional = positional

    def extended(self, annotations: Mapping[str, str], *, kw_only: bool) -> Fields:
        """Give these and those of one more class."""
        new = tuple(name for name, kind in annotations.items() if not kind.startswith("ClassVar"))
        names = (*self.names, *(name for name in new if name not in self.names))
        return Fields(names, self.positional if kw_only else (*self.positional, *new))

    def bind(self, cls: type, values: tuple[object, ...], given: dict[str, Any]) -> dict[str, Any]:
        """Pair fields with what a constructor was given.

        Raises:
            TypeError: One is missing, unknown, or given twice.
        """
        for name, value in zip(self.positional, values, strict=False):
            if name in given:
                raise TypeError(f"{cls.__name__} got two values for {name}")
            given[name] = value
        for name in self.names:
            if name not in given:
                try:
                    given[name] = getattr(cls, name)
                except AttributeError:
                    raise TypeError(f"{cls.__name__} needs a value for {name}") from None
        if len(given) != len(self.names) or len(values) > len(self.positional):
            unknown = ", ".join(given.keys() - set(self.names)) or f"{len(values)} values without their names"
            raise TypeError(f"{cls.__name__} takes no {unknown}")
        return given


class _DataclassFields:
    """Lets the functions of `dataclasses` take a record for one of theirs."""

    def __get__(self, instance: object, owner: type[Record]) -> Mapping[str, Any]:
        import dataclasses  # noqa: PLC0415 -- the point of it all

        fields = [
            (name, object, dataclasses.field(default=getattr(owner, name))) if hasattr(owner, name) else (name, object)
            for name in owner._fields.names
        ]
        made = dataclasses.make_dataclass(owner.__name__, fields, kw_only=True)
        found: Mapping[str, Any] = made.__dataclass_fields__  # type: ignore[attr-defined]
        return found


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """A value: equal to another with the same fields, and not changed once it is made."""

    _fields: ClassVar[Fields] = Fields()
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]
    else:
        __dataclass_fields__ = _DataclassFields()

    def __init_subclass__(cls, *, kw_only: bool = True) -> None:
        cls._fields = cls._fields.extended(cls.__annotations__, kw_only=kw_only)

    def __init__(self, *values: Any, **given: Any) -> None:
        self.__dict__.update(self._fields.bind(type(self), values, given))

    def changed(self, **changes: Any) -> Self:
        """Give a copy with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is a value, and not changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is a value, and not changed")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={self.__dict__[name]!r}' for name in self._fields.names)})"
