"""Records behave as dataclasses do, and the functions of `dataclasses` work on them."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from unpacker.errors import CorruptLayerError
from unpacker.record import Record


class Point(Record, kw_only=False):
    x: int
    y: int = 2


class Named(Point):
    name: str = "p"


def test_fields_are_given_by_position_or_keyword() -> None:
    """A class with ``kw_only=False`` takes its own fields by position, a class without only by keyword."""
    assert vars(Point(1)) == {"x": 1, "y": 2}
    assert vars(Named(1, 3, name="q")) == {"x": 1, "y": 3, "name": "q"}
    with pytest.raises(TypeError, match="3 values"):
        Named(1, 3, "q")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("values", "given", "message"),
    [
        ((), {}, "needs a value for x"),
        ((1,), {"x": 1}, "two values for x"),
        ((), {"x": 1, "z": 1}, "takes no z"),
    ],
)
def test_a_wrong_call_is_a_type_error(values: tuple[int, ...], given: dict[str, int], message: str) -> None:
    """What is missing, doubled or unknown is named."""
    with pytest.raises(TypeError, match=message):
        Point(*values, **given)


def test_a_record_is_a_value() -> None:
    """Equal fields of the same class make equal records, with the same hash; nothing can be changed."""
    assert Point(1) == Point(x=1, y=2)
    assert len({Point(1), Point(1, 2), Point(1, 3)}) == 2
    assert Point(1) != Named(1)
    assert repr(Point(1)) == "Point(x=1, y=2)"
    with pytest.raises(AttributeError, match="is a value"):
        Point(1).x = 3  # type: ignore[misc]
    with pytest.raises(AttributeError, match="is a value"):
        del Point(1).x
    assert Point(1).changed(y=5) == Point(1, 5)


def test_the_functions_of_dataclasses_work() -> None:
    """A library's user may take a report apart as any dataclass."""
    assert dataclasses.asdict(Point(1)) == {"x": 1, "y": 2}
    assert dataclasses.replace(Point(1), y=9) == Point(1, 9)
    assert [field.name for field in dataclasses.fields(Named)] == ["x", "y", "name"]


def test_records_and_errors_pickle() -> None:
    """They come from another process as they were there."""
    assert pickle.loads(pickle.dumps(Named(1, name="q"))) == Named(1, name="q")  # noqa: S301
    error = pickle.loads(pickle.dumps(CorruptLayerError("odd", layer="l", entry=b"e")))  # noqa: S301
    assert str(error) == "layer l entry 'e': odd"
