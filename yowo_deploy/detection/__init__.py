"""Detection over whole sources, with its results written to files."""
