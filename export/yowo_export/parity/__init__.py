"""Compare two model files."""

from yowo_export.parity.prove import Wanted, assert_parity, prove

__all__ = ["Wanted", "assert_parity", "prove"]
