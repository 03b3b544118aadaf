"""Read and write videos, image folders and live streams."""
