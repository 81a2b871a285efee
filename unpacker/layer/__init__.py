"""One layer, from its blob to its part of a root filesystem (layer.md).

In the order that its bytes take::

    stream     the blob, verified and decompressed beside the main thread, hashed again on the way
    names      entry names as components; which of them are whiteouts and not files at all
    stage      entries to files in a private tree, and a record of what depends on the layers below (`changes`);
               with `walk` (where a path leads inside the root), `maker` (one file, link or node), `hardlinks`
    below      the view of the layers below that staging may ask
    settle     whiteouts, the check of what staging took for granted, and the merge: by names, without data
    apply      all of it up to the staged tree, in one call
"""
