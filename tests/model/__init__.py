"""The reference model of layer application, and what it is tested with."""
