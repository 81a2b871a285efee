"""What becomes of verified layers: a directory at DEST."""
