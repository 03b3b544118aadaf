"""Prove that two model files are the same model."""

from yowo_export.parity.prove import Wanted, assert_parity, prove

__all__ = ["Wanted", "assert_parity", "prove"]
