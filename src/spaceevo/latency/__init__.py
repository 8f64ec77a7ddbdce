"""Profilers, which models to measure, and the latency predictor."""
