"""Who will own what is unpacked: maps of ids as they are written, and what they make of an image's owners."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unpacker.errors import UnsafeEntryError, UsageError
from unpacker.tree.owners import IdMap, Owners

HIGHEST = 2**32 - 2
PROPERTY = settings(max_examples=100, derandomize=True, database=None, deadline=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:1000", IdMap(0, 1000, 1)),
        ("0:100000:65536", IdMap(0, 100_000, 65536)),
        ("0:0:4294967295", IdMap(0, 0, HIGHEST + 1)),
        ("4294967294:0", IdMap(HIGHEST, 0, 1)),
        ("0:4294967294:1", IdMap(0, HIGHEST, 1)),
        ("007:08:09", IdMap(7, 8, 9)),
    ],
)
def test_maps_are_read(text: str, expected: IdMap) -> None:
    assert IdMap.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "0", "0:", ":0", "0:0:", "0:0:1:", "0:0:1:2", "a:b", "-1:0", "0:-1", "0:0:-1", "+1:0", "1.0:0"),
        *("0x1:0", "1_0:0", " 0:0", "0:0 ", "0 :0", "\u0661:0", "\u00b2:0", "0,0", "0:0\n", "0:0\0"),
    ],
)
def test_what_is_no_map(text: str) -> None:
    with pytest.raises(UsageError, match=r"^id map .* is not CONTAINER:HOST\[:SIZE\]$"):
        IdMap.parse(text)


@pytest.mark.parametrize(
    "text",
    ["0:0:0", "4294967295:0", "0:4294967295", "0:0:4294967296", "4294967294:0:2", "0:4294967290:6", "9" * 5000 + ":0"],
    ids=lambda text: text[:20],
)
def test_maps_stay_in_the_range_of_ids(text: str) -> None:
    """4294967295 means "leave it" to chown(2); and a size of nothing is a slip of the pen."""
    with pytest.raises(UsageError, match="leaves the range of ids, 0 to 4294967294"):
        IdMap.parse(text)


@pytest.mark.parametrize(
    ("uid", "gid", "expected"),
    [(0, 0, (100_000, 200_000)), (999, 9, (100_999, 200_009)), (1000, 5, (1000, 200_005)), (2000, 0, (7, 200_000))],
)
def test_maps_apply(uid: int, gid: int, expected: tuple[int, int]) -> None:
    owners = Owners(
        apply=True,
        uid_map=[IdMap(0, 100_000, 1000), IdMap(1000, 1000), IdMap(2000, 7)],
        gid_map=[IdMap(0, 200_000, 10)],
    )
    assert owners.mapped
    assert owners.map(uid, gid) == expected


@pytest.mark.parametrize(
    ("uid", "gid", "what"),
    [(1000, 0, "uid 1000 is in no range of --uid-map"), (0, 1, "gid 1 is in no range of --gid-map")],
)
def test_an_id_that_a_map_leaves_out_is_refused(uid: int, gid: int, what: str) -> None:
    """It would otherwise be some other user's of the host."""
    owners = Owners(apply=True, uid_map=[IdMap(0, 5, 1000)], gid_map=[IdMap(0, 5)])
    with pytest.raises(UnsafeEntryError, match=what):
        owners.map(uid, gid)


def test_a_map_of_one_kind_leaves_the_other_as_it_is() -> None:
    of_users, of_groups = Owners(apply=True, uid_map=[IdMap(0, 5)]), Owners(apply=True, gid_map=[IdMap(0, 5)])
    assert (of_users.map(0, 77), of_groups.map(77, 0)) == ((5, 77), (77, 5))
    assert (of_users.mapped, of_groups.mapped, Owners(apply=True).mapped) == (True, True, False)


def test_a_name_says_what_is_done() -> None:
    """Two runs with the same name make the same of a layer, so it holds every range."""
    assert Owners(apply=False, uid_map=[IdMap(0, 5)]).name == "no owners"
    assert Owners(apply=True).name == "owners kept"
    mapped = Owners(apply=True, uid_map=[IdMap(0, 5, 2), IdMap(7, 8)], gid_map=[IdMap(0, 9)])
    assert mapped.name == "owners mapped (uid 0:5:2, uid 7:8:1, gid 0:9:1)"


def test_ids_of_the_host_are_not_mapped_again() -> None:
    """As they were read from disk; all else stays as it was asked for."""
    asked = Owners(apply=False, required=True, counted=False, uid_map=[IdMap(0, 5)])
    host = asked.on_host()
    assert (host.apply, host.required, host.counted, host.mapped) == (False, True, False, False)


def test_the_first_of_two_ranges_counts() -> None:
    assert Owners(apply=True, uid_map=[IdMap(5, 50), IdMap(0, 100, 10)]).map(5, 0) == (50, 0)


@PROPERTY
@given(st.integers(0, HIGHEST), st.integers(0, HIGHEST), st.integers(0, 100), st.integers(0, HIGHEST))
def test_a_range_keeps_distances(container: int, host: int, away: int, number: int) -> None:
    size = max(1, min(away + 1, HIGHEST + 1 - container, HIGHEST + 1 - host))
    owners = Owners(apply=True, uid_map=[IdMap.parse(f"{container}:{host}:{size}")])
    if container <= number < container + size:
        assert owners.map(number, 0)[0] - host == number - container
    else:
        with pytest.raises(UnsafeEntryError):
            owners.map(number, 0)
    assert owners.map(container + size - 1, 0) == (host + size - 1, 0)
