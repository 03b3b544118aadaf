"""Describe the system and try what works on it."""
