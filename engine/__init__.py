"""spadeline's runtime."""
