"""Removes what an image, or an interrupted run, has left: any tree, of any depth and any modes, and nothing beside it.

Subvolumes of btrfs go like directories, the read-only ones too; with privilege by one call, whatever is in them.

Never through a symlink, never by a path, and without recursion: depth is a number that an image chooses
(``shutil.rmtree`` fails at a thousand levels).  A directory that lies too deep is first renamed up to the top of the
tree, so that few descriptors are open at any time.
"""

from __future__ import annotations

import os
from contextlib import suppress

from unpacker.tree import subvolume
from unpacker.tree.descriptors import part

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 64
_RANDOM = 16


def remove_at(parent: int, name: bytes | str) -> None:
    """Remove the file or tree ``name`` in the directory with the descriptor ``parent``; fine if there is none.

    Raises:
        OSError: Something cannot be removed.
    """
    name = os.fsencode(name)
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):  # PermissionError: what POSIX asks of unlink on a directory
        with suppress(OSError):  # an empty one takes no descriptor, and there may be no more
            os.rmdir(name, dir_fd=parent)
            return
        if not _is_directory(parent, name):
            raise
        _remove_tree(parent, name)


def _is_directory(parent: int, name: bytes) -> bool:
    try:
        os.close(_open(parent, name))
    except (NotADirectoryError, FileNotFoundError):
        return False
    return True


def _open(parent: int, name: bytes) -> int:
    """Open a directory, and make it ours to empty if an unprivileged owner could not."""
    try:
        descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    except PermissionError:
        # Only a directory gets here unreadable; O_PATH needs no permission, and chmod goes to that very inode.
        probe = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chmod(f"/proc/self/fd/{probe}", 0o700)
        finally:
            os.close(probe)
        descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=parent)
    try:
        if subvolume.is_root(descriptor):
            subvolume.set_writable(descriptor, writable=True)
        with suppress(PermissionError):
            os.fchmod(descriptor, 0o700)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_tree(parent: int, name: bytes) -> None:
    deepest = part(_DEEPEST)
    stack = [_emptied(parent, name)]
    try:
        while stack:
            inner_name, inner, children = stack[-1]
            if not children:
                os.close(stack.pop()[1])
                with suppress(FileNotFoundError):  # a subvolume, destroyed with all that was in it
                    os.rmdir(inner_name, dir_fd=stack[-1][1] if stack else parent)
            elif len(stack) < deepest:
                stack.append(_emptied(inner, children.pop()))
            else:
                # Not beside the tree: a run that is killed here would leave it there, where nobody looks for it.
                _, top, waiting = stack[0]
                # A name that no image can foresee: what has it would be in the way.
                up = b".deep-" + os.urandom(_RANDOM).hex().encode()
                child = children.pop()
                os.close(_open(inner, child))  # to rename a directory takes write permission on itself
                os.rename(child, up, src_dir_fd=inner, dst_dir_fd=top)
                waiting.append(up)
    finally:
        for _, descriptor, _ in stack:
            os.close(descriptor)


def _emptied(parent: int, name: bytes) -> tuple[bytes, int, list[bytes]]:
    """Open a directory and unlink its files; give its name, its descriptor and the names of its directories."""
    directory = _open(parent, name)
    children = []
    try:
        if subvolume.is_root(directory) and subvolume.destroy(parent, name):
            return name, directory, []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    children.append(os.fsencode(entry.name))
                else:
                    os.unlink(entry.name, dir_fd=directory)
    except BaseException:
        os.close(directory)
        raise
    return name, directory, children
