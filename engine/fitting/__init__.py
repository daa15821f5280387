"""Normal images to a recipe, and a recipe's thresholds."""
