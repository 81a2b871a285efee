"""The fixtures of these tests."""

from tests.tree.support import quick_path

__all__ = ["quick_path"]
