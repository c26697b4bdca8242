"""What an exercise is, and its texts in two languages."""
