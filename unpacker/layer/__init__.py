"""From one layer's blob to its part of a root filesystem (layer.md), in the order that its bytes take::

    stream     the blob, verified and decompressed beside the main thread, hashed again on the way
    names      entry names as components; which of them are whiteouts and not files at all
    stage      entries to files in a private tree, and a record of what depends on the layers below (`changes`)
    walk       where a path leads inside the root, symlinks followed
    below      the view of the layers below that staging and settling may ask
    settle     whiteouts, the check of what staging took for granted, and the merge, all by names and without data
"""
