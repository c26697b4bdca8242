"""The recorded graph as data for pictures: steps, cells, states, names, and the gradient on each edge."""
