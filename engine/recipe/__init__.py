"""The recipe's folder: which files it holds, how it is read, and how it is changed."""
