"""The vocabulary of the OCI image specification as pure values: nothing here opens a file.

Digests, media types, platforms, descriptors, the three documents (index, manifest, config) and ChainIDs.  What an image
says comes in through `unpacker.spec.strictjson`, the one border between JSON and typed values.
"""
