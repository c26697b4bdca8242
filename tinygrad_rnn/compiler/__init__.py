"""Plans: a function recorded, its backward pass included, as calls and loops of calls on memory laid out in advance."""
