"""Bytes by digest: the layout on disk, its verified blobs, and the labels that are kept beside them."""
