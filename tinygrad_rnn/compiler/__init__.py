"""Plans: a recorded function, its backward pass included, as a flat list of NumPy calls on memory laid out in advance."""
