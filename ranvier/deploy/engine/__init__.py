"""The event-driven engine: networks that compute only where a spike is."""
