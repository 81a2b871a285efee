"""The image specification, rule by rule: what docs/conformance.md lists."""
