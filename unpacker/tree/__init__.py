"""The only system calls on trees: making, removing, renaming and finishing what an image asks for.

Everything works on directory descriptors and single names; no function takes a path out of an image.  A system call
that fails raises the ``OSError`` that it is.
"""
