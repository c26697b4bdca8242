"""What is wrong with an answer, in words, and in a process of its own."""
