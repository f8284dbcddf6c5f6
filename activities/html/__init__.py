"""HTML: the templates of every page, and the one place that fills them."""
