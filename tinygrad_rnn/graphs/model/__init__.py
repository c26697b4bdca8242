"""The recorded graph as data for pictures: steps, cells, states, parts, names, and the gradient on each edge."""
