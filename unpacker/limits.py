"""How much of everything an image may ask for, in one value.

An image is untrusted input, and every number in it is chosen by whoever made it.  Each limit here stands far above what
real images need and far below what hurts.
"""

from __future__ import annotations

from unpacker.record import Record


class Limits(Record):
    """What an image may ask for at most; a field set higher trusts the image more."""

    document_bytes: int = 8 << 20
    """Bytes of one JSON document (index, manifest, config).  containerd takes 20 MiB, registries 4 MiB."""

    document_values: int = 250_000
    """Values in one JSON document, as its commas and opening brackets count them, those within strings as well.

    One of two bytes takes a hundred in memory, an object of seven takes 230.  An index of 10,000 images has 120,000.
    """

    document_depth: int = 64
    """Nesting of one JSON document.  The deepest real one (a config with health checks) nests below 10."""

    index_depth: int = 8
    """Indexes inside indexes.  Real ones nest once; by hash they cannot form a cycle, but a long chain they can."""

    index_manifests: int = 10_000
    """Descriptors met in all indexes of one resolution together."""

    layers: int = 1_000
    """Layers of one image.  Docker stops at 127, overlayfs at 500."""

    image_bytes: int = 1 << 40
    """Decompressed bytes of all layers, and of copies in place of hard links; what goes beyond is not read on."""

    entries: int = 10_000_000
    """Tar entries of one layer, and directories in it, which names alone can ask for."""

    path_bytes: int = 4_096
    """Bytes of one resolved path, Linux's PATH_MAX: beyond it no program could name the file."""

    path_depth: int = 1_024
    """Directories that one name leads through.  4 KiB could ask for 2,000 of them, and each costs memory and time."""

    header_bytes: int = 1 << 20
    """Bytes of one pax header or GNU long name (Go's archive/tar stops at the same)."""

    xattrs: int = 10_000
    """Extended attributes of one file.  The kernel lists no more than 64 KiB of names, which is some 9,000."""

    xattr_bytes: int = 64 << 10
    """Bytes of one extended attribute's value, the kernel's XATTR_SIZE_MAX."""

    memory_bytes: int = 96 << 20
    """Bytes of memory for what has to be remembered to the end: directories, their extended attributes, whiteouts, hard
    links to what comes later, and what could not be made.

    A directory takes some 400 bytes, for which 7 are enough in an image.  There is room for 250,000; large images have
    50,000.  What a run takes besides is 50 MiB at most, and the window of zstd.
    """

    sparse_segments: int = 100_000
    """Segments of one sparse file's map (the unbounded ones were Go's CVE-2025-58183)."""

    layer_bytes: int = 1 << 40
    """Decompressed bytes of one layer."""

    ratio: int = 2_000
    """Decompressed bytes for each compressed byte of a layer, beyond the first ``ratio_floor`` bytes.

    Deflate cannot exceed 1,032; zstd can reach 30,000 on zeros alone.
    """

    ratio_floor: int = 1 << 30
    """Decompressed bytes below which the ratio is not looked at: a small bomb does no harm."""

    free_bytes: int = 16 << 20
    """Bytes that stay free where files are made, so that whoever else writes there is not hit by a bomb.

    A filesystem that is smaller than this altogether is there to be filled.
    """

    zstd_window_log: int = 27
    """Base-2 logarithm of the largest zstd window: memory that one frame may claim (128 MiB, as the zstd tool)."""


DEFAULT = Limits()
