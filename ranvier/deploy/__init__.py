"""Trained networks at work: the event-driven engine, hardware, export."""
