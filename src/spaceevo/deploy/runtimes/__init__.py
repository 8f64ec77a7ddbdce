"""Runtimes, an adapter a file, and how models are timed in them."""
