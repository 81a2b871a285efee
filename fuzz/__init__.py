"""Coverage-guided fuzzing: bytes that find their own way into every branch, and what must hold of each of them."""
