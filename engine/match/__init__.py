"""The matcher: every pixel's nearest neighbours in the gallery, through the native module."""
