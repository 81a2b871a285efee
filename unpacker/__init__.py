"""Turn a container image on disk into a verified root filesystem: no daemon, no network, no privilege."""
