"""Attacks by name: what a hostile image, layout or neighbour tries.  docs/security.md has the list, and who may try."""
