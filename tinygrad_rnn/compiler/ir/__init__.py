"""The graph that is compiled: values, calls and loops, and the properties of operators."""
