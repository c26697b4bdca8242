"""What is checked: a number that depends on named leaves, and the gradient of it that users get."""
