"""Measuring speed and memory side by side with other packages, in one process and behind a test that all compute the same."""
