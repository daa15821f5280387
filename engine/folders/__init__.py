"""Which files of a folder are images, and what the names of their folders say about them. No file is opened."""
