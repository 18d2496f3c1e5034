"""The network: transforms, hyperprior, nested scales and their rates."""
