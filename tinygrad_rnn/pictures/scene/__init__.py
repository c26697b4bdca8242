"""What a picture is made of: boxes, edges, text and their looks, before anything is written."""
