"""Programs of the engine as one C99 file, for microcontrollers: no malloc, no library but an optional libm."""
