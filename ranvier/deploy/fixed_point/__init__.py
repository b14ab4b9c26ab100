"""Programs in whole numbers, for machines without floating point: quantised, and run by a reference."""
