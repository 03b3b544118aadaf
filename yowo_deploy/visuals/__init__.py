"""Draw boxes, plots and HTML reports."""
