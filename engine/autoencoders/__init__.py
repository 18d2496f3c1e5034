"""Which autoencoders there are, how they are loaded, and how a frozen decoder is rewritten for the loop."""
