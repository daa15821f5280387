"""Choosing a recipe's settings by labelled images, half of which are kept for the final figures."""
