"""Bytes to entries: a blob is decompressed (`decompress`) and read as a tar archive (`reader`), strictly."""
