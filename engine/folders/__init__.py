"""Which files of a folder are images, and what their folders' names say of them. Only names are looked at."""
