"""Measure model files and compare measurements."""
