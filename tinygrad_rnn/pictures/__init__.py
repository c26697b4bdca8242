"""Pictures of diagrams: what one is made of, where its boxes and lines stand, and how it is written.

scene/ holds the parts of a picture with their places and looks; layout/ finds places for diagrams; export/ writes a
scene, and knows nothing else. Nothing here knows what a diagram is of.
"""
