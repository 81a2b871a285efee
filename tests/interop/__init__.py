"""Real images, other unpackers, and the oddities of the tools that make images; see README.md beside this file."""
