"""How networks learn: losses and regularisers, each a file."""
