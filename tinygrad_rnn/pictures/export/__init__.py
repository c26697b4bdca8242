"""A scene as SVG, as DOT, and as a page."""
