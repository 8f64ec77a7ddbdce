"""What is claimed of a model file, and whether it holds: gate, card, verification."""
