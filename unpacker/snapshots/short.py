"""Short names for directories of a store, as links in it.

The options of one mount(2) fit into a page.  Names like ``snapshots/sha256/<64 digits>/fs`` fill it at some forty
layers; names like ``l/kq3zv`` do not before a hundred, and overlayfs follows them (Docker's overlay2 has the same).
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256

from unpacker.tree.rights import make_directory

LINKS = "l"
_SHORTEST, _LONGEST = 5, 52


def short_name(root: str, path: str) -> str:
    """Give another name of a directory of the store: the same each time, made if it is not there."""
    from base64 import b32encode  # noqa: PLC0415 -- only mounts of many layers need it

    links = os.path.join(root, LINKS)
    with suppress(FileExistsError):
        make_directory(links)
    target = os.path.join(os.pardir, os.path.relpath(path, root))
    name = b32encode(sha256(os.fsencode(target)).digest()).decode().lower().rstrip("=")
    for length in range(_SHORTEST, _LONGEST + 1):  # longer where two directories would have the same
        link = os.path.join(links, name[:length])
        with suppress(FileExistsError):
            os.symlink(target, link)
        if os.readlink(link) == target:
            return link
    raise FileExistsError(links)


def sweep_links(root: str) -> int:
    """Remove the names of directories that have gone; give how many that were."""
    links = os.path.join(root, LINKS)
    swept = 0
    with suppress(FileNotFoundError):
        for name in os.listdir(links):
            path = os.path.join(links, name)
            if not os.path.exists(path):
                os.unlink(path)
                swept += 1
    return swept
