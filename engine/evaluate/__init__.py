"""A recipe's accuracy on labelled images: metrics, charts and the report."""
