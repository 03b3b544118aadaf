"""Measurements that make the figures in the documentation; not installed."""
