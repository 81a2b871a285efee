"""An image of as many layers as it has had edits: each a shell script over the tree so far, packed by ``umoci repack``.

The tree that was edited is kept: it is what every way of unpacking must give back.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TAG = "latest"
EDITS = {
    "a package is purged, and what apt had downloaded": """
        chroot . dpkg --purge --force-all mawk libsemanage-common
        rm -rf var/lib/apt/lists/* var/cache/apt/*.bin usr/share/doc
    """,
    "directories become links and files, and the other way round": """
        mv usr/share/locale usr/lib/locale-moved && ln -s ../lib/locale-moved usr/share/locale
        rm -rf usr/share/lintian && echo a file >usr/share/lintian
        rm etc/issue && mkdir etc/issue && echo in it >etc/issue/now
        rm etc/localtime && mkdir -m 2750 etc/localtime && ln -s ../issue etc/localtime/there
    """,
    "a directory is removed and made again, another one moves": """
        rm -rf etc/apt && mkdir -p etc/apt/sources.list.d && echo new >etc/apt/sources.list
        mv usr/share/perl5 usr/share/perl6 && mkdir usr/share/perl5 && echo new >usr/share/perl5/README
        mv etc/pam.d/login etc/pam.d/moved
    """,
    "names more and fewer for files of layers below": """
        ln usr/bin/find usr/local/bin/find && ln usr/bin/find opt/find
        ln -P bin/sh usr/local/bin/a-link-to-a-link
        ln etc/issue/now srv/now && ln etc/pam.d/moved etc/pam.d/login
        cp --preserve=links -a usr/bin/perl usr/local/bin/perl-of-my-own && rm -f usr/bin/perl5*
    """,
    "attributes alone": """
        chmod 4711 usr/bin/sed && chmod 0 etc/shadow && chmod 1777 opt && chmod 0500 root
        chown 1000:1001 home srv/now && chown -h 7:8 bin && chown 4294967294:2147483648 media
        setcap cap_net_raw,cap_setuid=ep usr/bin/head
        setfacl -m u:12:rw,g:13:r etc/hostname && setfacl -d -m u:12:rwx var/log
        setfattr -n user.note -v 'a note' etc/motd && setfattr -n user.empty etc/motd && setfattr -n user.dir -v 1 usr
        setfattr -n trusted.note -v 2 etc/motd
        touch -d '1969-12-31 23:59:58 UTC' etc/hosts-of-old && touch -h -d '2030-01-02 03:04:05.678901234 UTC' lib
        touch -d '2001-02-03 04:05:06.789 UTC' var/log
    """,
    "what edits have made is undone and done again": """
        rm usr/share/locale && mkdir usr/share/locale && echo again >usr/share/locale/locale.alias
        rm -rf etc/issue && echo Debian >etc/issue
        rm opt/find && rm -rf usr/share/perl6 usr/share/perl5/README
        mkdir -p usr/share/doc/new && echo doc >usr/share/doc/new/doc
        chmod 640 etc/shadow && setcap -r usr/bin/head && setfattr -x user.note etc/motd && setfacl -b etc/hostname
    """,
    "pipes, nodes, holes, odd names": """
        mkfifo -m 622 run/initctl && mknod -m 666 dev/null-again c 1 3 && mknod -m 660 dev/far b 259 300000
        chown 0:6 dev/far
        truncate -s 50M var/log/lastlog && printf end >>var/log/lastlog
        printf x >"$(printf 'srv/\\351 \\n odd')" && mkdir -p "srv/$(printf '%0200d' 0)/$(printf '%0255d' 1)"
        touch srv/..a srv/-rf srv/.w
    """,
}


def build(base: Path, place: Path) -> tuple[Path, Path]:
    """Edit a Debian; give the layout, whose image has a layer more for each edit, and the tree as it is in the end."""
    layout, bundle = place / "edits", place / "bundle"
    shutil.copytree(base, layout, ignore=shutil.ignore_patterns("labels"))
    image = f"{layout}:{TAG}"
    _run("umoci", "unpack", "--image", image, str(bundle))
    for script in EDITS.values():
        _run("sh", "-ec", script, cwd=bundle / "rootfs")
        _run("umoci", "repack", "--refresh-bundle", "--image", image, str(bundle))
    return layout, bundle / "rootfs"


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
