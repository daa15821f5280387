"""The recipe's folder: what it holds, how it is read, and how it changes."""
