"""Directories by chain_id: what was unpacked stays, for the next image that shares it; and how it is mounted."""
