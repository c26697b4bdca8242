"""The parts of a picture: boxes, edges, text and their styles, independent of any file format."""
