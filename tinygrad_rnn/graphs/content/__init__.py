"""What stands in the boxes of a picture: kind, title, small lines, tooltip. The same for all views."""
