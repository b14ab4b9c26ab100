"""Networks of populations, as models of brains are written: simulated between spikes, delay by delay."""
