"""A program as C99: one source file and one header, without dependencies and without allocation."""
