"""A run's folder as one self-contained HTML page."""

from ranvier.lab.report.page import write

__all__ = ["write"]
