"""The reference model of layer application (layer.md, "Applying Changesets"; docs/architecture.md has the decisions).

Layers are entries as values (`tests.support.tarbuild.Entry`), before they are bytes; the result is a tree as
`tests.support.tree.read` reads one from disk.  The model is written to be *seen* to be right: one tree in memory, one
entry after the other, no shortcut, nothing prepared, everything looked up anew.  It knows nothing of the package.

A layer is applied in three steps, in `apply_layer`:

1. its whiteouts, to the tree of the layers below and to nothing else;
2. its entries in order, each to the tree as it is at that moment;
3. its hard links whose target came later than they did.

What no root filesystem can hold is `Refused`; nothing is said about the tree then.  What a host cannot hold (owners,
devices, attributes without privilege) is none of the model's business: it always holds everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.support.tarbuild import Entry
from tests.support.tree import Node, Tree, content_of, grouped

Layer = Sequence[Entry]
Components = list[bytes]

MAX_COMPONENT = 255
MAX_PATH = 4096
MAX_HOPS = 40
MAX_LINKED = 1024
WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
AUFS = b".wh..wh."
LINK_STORE = b".wh..wh.plnk"


class Refused(Exception):  # noqa: N818 -- an answer as good as a tree, no accident
    """A layer that no root filesystem can hold, and the entry that makes it so."""

    def __init__(self, entry: Entry, why: str) -> None:
        super().__init__(f"{entry.name!r}: {why}")
        self.entry = entry


class Looping(Exception):  # noqa: N818 -- becomes a refusal or a no-op, as the caller has it
    """More symbolic links on a path than `MAX_HOPS`, or longer ones than `MAX_LINKED`."""


class Nameless(Exception):  # noqa: N818 -- becomes a refusal
    """A path on which a symbolic link leads to a name that no directory may have."""


@dataclass(slots=True, eq=False)
class Inode:
    """A file of any kind; several names may lead to the same one, except to directories."""

    kind: str
    """A kind of `Entry`, or "pending": a hard link whose target is not there yet."""
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    data: bytes = b""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)
    children: dict[bytes, Inode] = field(default_factory=dict)
    fresh: bool = False
    """A directory that cannot be one of the layers below: an entry names it, or it replaced something in its layer."""
    entry: Entry | None = None
    """The entry of a pending hard link."""

    @property
    def is_directory(self) -> bool:
        return self.kind == "directory"


def implied_directory(*, fresh: bool = False) -> Inode:
    """Give a directory that no entry speaks of: 0755, root's, of 1970."""
    return Inode("directory", fresh=fresh)


def made_by(entry: Entry) -> Inode:
    """Give what an entry other than a hard link makes."""
    return Inode(
        kind=entry.kind,
        mode=0o777 if entry.kind == "symlink" else entry.mode & 0o7777,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime,
        xattrs=dict(entry.xattrs),
        data=entry.data,
        target=entry.link if entry.kind == "symlink" else b"",
        device=entry.device if entry.kind in ("char", "block") else (0, 0),
        fresh=entry.kind == "directory",
    )


# -- names -------------------------------------------------------------------------------------------------------------


def normalised(name: bytes) -> Components:
    """Give the components of a name, lexically: the root is the start and the end of all climbing."""
    components: Components = []
    for component in name.split(b"/"):
        if component == b"..":
            del components[-1:]
        elif component not in (b"", b"."):
            components.append(component)
    return components


def check_name(entry: Entry) -> None:
    """Refuse a name that Linux has no place for."""
    components = normalised(entry.name)
    if not entry.name or b"\0" in entry.name:
        raise Refused(entry, "no name, or NUL in it")
    if any(len(component) > MAX_COMPONENT for component in components) or len(b"/".join(components)) > MAX_PATH:
        raise Refused(entry, "too long")
    if not components and entry.kind != "directory":
        raise Refused(entry, "the root must be a directory")
    if entry.kind == "symlink" and not entry.link:
        raise Refused(entry, "a symbolic link to nothing")


@dataclass(slots=True)
class Sorted:
    """The entries of a layer, by what they are for."""

    plain: list[Entry] = field(default_factory=list)
    """What is to be made, and the files in ``.wh..wh.plnk``, where AUFS kept what hard links of the layer point to."""
    whiteouts: list[Components] = field(default_factory=list)
    opaques: list[Components] = field(default_factory=list)


def sort(layer: Layer) -> Sorted:
    """Tell whiteouts and AUFS's own files, which no tree ever shows, from what is to be made."""
    found = Sorted()
    for entry in layer:
        check_name(entry)
        *parents, last = normalised(entry.name) or [b""]
        marked = [parent for parent in parents if parent.startswith(WHITEOUT)]
        if marked and not marked[0].startswith(AUFS):
            raise Refused(entry, "a whiteout is no directory")
        if marked or (last.startswith(AUFS) and last != OPAQUE):
            if parents == [LINK_STORE] and entry.kind == "file":
                found.plain.append(entry)
        elif last == OPAQUE:
            found.opaques.append(parents)
        elif last in (WHITEOUT, WHITEOUT + b".", WHITEOUT + b".."):
            raise Refused(entry, "a whiteout of nothing")
        elif last.startswith(WHITEOUT):
            found.whiteouts.append([*parents, last.removeprefix(WHITEOUT)])
        else:
            found.plain.append(entry)
    return found


# -- the tree ----------------------------------------------------------------------------------------------------------


class MergedTree:
    """A root filesystem in memory."""

    def __init__(self, *, keep_dirlinks: bool = False) -> None:
        self.root = implied_directory()
        self.keep_dirlinks = keep_dirlinks
        self.link_store: dict[bytes, Inode] = {}
        """AUFS's, of the layer that is being applied; of several files of one name a link means the last before it."""

    def walk(self, components: Components, *, make: bool = False) -> Inode | None:
        """Give the directory at a path, with all symbolic links followed inside the root, as chroot would.

        With ``make``, what is not there becomes an implied directory, and what is in the way is replaced by one;
        without, the answer is then None.

        Raises:
            Looping: There are too many symbolic links on the way.
            Nameless: What would have to be made may not have its name.
        """
        way = [self.root]
        waiting = list(components)
        hops = linked = 0
        while waiting:
            component = waiting.pop(0)
            here = way[-1]
            child = here.children.get(component)
            if component in (b"", b"."):
                continue
            if component == b"..":
                way = way[:-1] or [self.root]
            elif child is not None and child.is_directory:
                way.append(child)
            elif child is not None and child.kind == "symlink":
                hops += 1
                linked += child.target.count(b"/") + 1
                if hops > MAX_HOPS or linked > MAX_LINKED:
                    raise Looping
                waiting = child.target.split(b"/") + waiting
                if child.target.startswith(b"/"):
                    way = [self.root]
            elif make:
                if component.startswith(WHITEOUT) or len(component) > MAX_COMPONENT:
                    raise Nameless
                here.children[component] = implied_directory(fresh=child is not None)
                way.append(here.children[component])
            else:
                return None
        return way[-1]

    def find(self, components: Components) -> Inode | None:
        """Give what is at a path; symbolic links are followed on the way, the last component never is."""
        if not components:
            return self.root
        parent = self.walk(components[:-1])
        return None if parent is None else parent.children.get(components[-1])

    # -- one entry ---------------------------------------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        """Apply one entry to the tree as it is."""
        components = normalised(entry.name)
        if components[:1] == [LINK_STORE]:
            self.link_store[components[1]] = made_by(entry)
            return
        if not components:
            self.replace_attributes(self.root, entry)
            return
        name = components[-1]
        try:
            parent = self.walk(components[:-1], make=True)
        except Looping:
            raise Refused(entry, "too many symbolic links") from None
        except Nameless:
            raise Refused(entry, "a symbolic link to what may not be") from None
        assert parent is not None
        if entry.kind == "directory":
            self.add_directory(entry, parent, components)
        elif entry.kind == "hardlink":
            self.add_hard_link(entry, parent, name)
        else:
            parent.children[name] = made_by(entry)

    def add_directory(self, entry: Entry, parent: Inode, components: Components) -> None:
        """Merge with the directory that is there; replace all else."""
        there = parent.children.get(components[-1])
        if there is not None and there.kind == "symlink" and self.keep_dirlinks:
            there = self.behind(components)
        if there is not None and there.is_directory:
            self.replace_attributes(there, entry)
        else:
            parent.children[components[-1]] = made_by(entry)

    def behind(self, components: Components) -> Inode | None:
        """Give the directory that a symbolic link leads to, None if it leads to none."""
        try:
            return self.walk(components)
        except Looping:
            return None

    def replace_attributes(self, directory: Inode, entry: Entry) -> None:
        """Give a directory the attributes of an entry, all of them; what is in it stays."""
        new = made_by(entry)
        directory.mode, directory.uid, directory.gid = new.mode, new.uid, new.gid
        directory.mtime, directory.xattrs, directory.fresh = new.mtime, new.xattrs, True

    def add_hard_link(self, entry: Entry, parent: Inode, name: bytes) -> None:
        """Give a file one more name; its attributes stay what they are, whatever the entry says."""
        there = parent.children.get(name)
        if there is not None and not there.is_directory and self.link_target(entry) is there:
            return  # a link to itself, or to what is the same file already
        parent.children.pop(name, None)
        target = self.link_target(entry)
        parent.children[name] = Inode("pending", entry=entry) if target is None else target

    def link_target(self, entry: Entry) -> Inode | None:
        """Find what a hard link is another name of; None if there is nothing."""
        components = normalised(entry.link)
        if components[:1] == [LINK_STORE]:
            return self.link_store.get(b"/".join(components[1:]))
        try:
            target = self.find(components)
        except Looping:
            raise Refused(entry, "too many symbolic links to the link's target") from None
        if target is not None and target.is_directory:
            raise Refused(entry, "a hard link to a directory")
        return target

    # -- the end of a layer ------------------------------------------------------------------------------------------

    def settle_links(self) -> None:
        """Resolve the hard links whose target came after them; one to such a link waits until that one is resolved."""
        progress = True
        while progress:
            progress = False
            for _, parent, name, inode in list(self.names()):
                if inode.kind != "pending":
                    continue
                assert inode.entry is not None
                target = self.link_target(inode.entry)
                if target is not None and target.kind != "pending":
                    parent.children[name] = target
                    progress = True
        for _, _, _, inode in self.names():
            if inode.kind == "pending":
                assert inode.entry is not None
                raise Refused(inode.entry, "a hard link to nothing")

    def names(self) -> Iterator[tuple[bytes, Inode, bytes, Inode]]:
        """Give all names below the root: path, parent, last component, inode."""
        waiting = [(b"", self.root)]
        while waiting:
            path, parent = waiting.pop()
            for name, inode in parent.children.items():
                yield path + name, parent, name, inode
                if inode.is_directory:
                    waiting.append((path + name + b"/", inode))

    def as_tree(self) -> Tree:
        """Give the tree in the shape of one that was read from disk."""
        tree = {b".": node_of(self.root)}
        groups: defaultdict[int, list[bytes]] = defaultdict(list)
        for path, _, _, inode in self.names():
            tree[path] = node_of(inode)
            groups[id(inode)].append(path)
        return grouped(tree, groups.values())


def node_of(inode: Inode) -> Node:
    """Give an inode in the shape of one that was read from disk."""
    return Node(
        kind=inode.kind,
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        size=len(inode.data),
        content=content_of(inode.data),
        target=inode.target,
        rdev=inode.device,
        mtime_ns=inode.mtime,
        xattrs=dict(sorted(inode.xattrs.items())),
    )


# -- whiteouts ---------------------------------------------------------------------------------------------------------


def hide(tree: MergedTree, found: Sorted) -> None:
    """Take away what a layer's whiteouts hide; the tree has only the layers below yet, so they hide nothing else.

    The order of a layer's entries has no part in it: shallow ones come first, so that a directory which is hidden as a
    whole is no parent any more.
    """
    own = own_tree(found, keep_dirlinks=tree.keep_dirlinks)
    hidden = [(parents, None) for parents in found.opaques] + [(path[:-1], path[-1]) for path in found.whiteouts]
    for parents, name in sorted(hidden, key=lambda one: (len(one[0]), one[0], one[1] or b"")):
        if is_void(parents, own, tree):
            continue
        try:
            directory = tree.walk(parents)
        except Looping:
            continue
        if directory is None:
            continue
        if name is None:
            directory.children.clear()
        else:
            directory.children.pop(name, None)


def own_tree(found: Sorted, *, keep_dirlinks: bool) -> MergedTree:
    """Give what a layer makes with nothing below it; a link to what is not its own is some file."""
    own = MergedTree(keep_dirlinks=keep_dirlinks)
    for entry in found.plain:
        with suppress(Refused):  # without the layers below, a link may seem to lead nowhere, or to a directory
            own.add(entry)
    return own


def is_void(parents: Components, own: MergedTree, below: MergedTree) -> bool:
    """Say whether a whiteout stands below something that its own layer puts in the way of what is below.

    That is a file or a symbolic link which the layer itself has in the end (``umoci repack`` writes such whiteouts), or
    a directory of the layer in place of a symbolic link below: through that link it would hide files of another
    directory, which the layer does not speak of.
    """
    here = own.root
    for depth, component in enumerate(parents, 1):
        child = here.children.get(component)
        if child is None:
            return False
        if not child.is_directory:
            return True
        if child.fresh and is_replaced(parents[:depth], below):
            return True
        here = child
    return False


def is_replaced(path: Components, below: MergedTree) -> bool:
    """Say whether the layers below have a symbolic link where a layer makes a directory."""
    try:
        there = below.find(path)
    except Looping:
        return True
    if there is None or there.kind != "symlink":
        return False
    return not (below.keep_dirlinks and below.behind(path) is not None)


# -- the whole ---------------------------------------------------------------------------------------------------------


def apply_layer(tree: MergedTree, layer: Layer) -> None:
    """Apply one layer to the tree of those below it."""
    found = sort(layer)
    hide(tree, found)
    tree.link_store = {}
    for entry in found.plain:
        tree.add(entry)
    tree.settle_links()


def apply(layers: Iterable[Layer], *, keep_dirlinks: bool = False) -> Tree:
    """Give the tree that a stack of layers makes, base first.

    Raises:
        Refused: No root filesystem can hold it.
    """
    tree = MergedTree(keep_dirlinks=keep_dirlinks)
    for layer in layers:
        apply_layer(tree, layer)
    return tree.as_tree()
