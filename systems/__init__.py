"""Systems on the engine's loop and factory, each a folder of its own."""
