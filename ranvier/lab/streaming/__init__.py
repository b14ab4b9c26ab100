"""Saved runs on streams: what comes in, and what the network says meanwhile."""
