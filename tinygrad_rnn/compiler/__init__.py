"""Plans: a function recorded, its backward pass included, as a flat list of NumPy calls on memory laid out before."""
