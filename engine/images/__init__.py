"""Frames and image files: read, checked, and brought to the extractor's input."""
