"""What a wrong gradient looks like, and what in the code under test explains it."""
