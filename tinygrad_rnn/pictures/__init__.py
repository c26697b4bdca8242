"""Pictures of diagrams: their parts, their layout, and the formats they are written in.

scene/ holds the parts of a picture with their positions and styles; layout/ positions diagrams; export/ writes a
scene, and depends on nothing else. Nothing here knows what a diagram represents.
"""
