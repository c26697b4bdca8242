"""Contents of boxes, shared by all views: kind, title, lines of small text, tooltip."""
