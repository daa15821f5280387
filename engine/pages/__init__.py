"""Self-contained HTML pages: templates, charts and pictures that reports share."""
