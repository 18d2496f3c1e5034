"""Everything that needs a GPU to be measured, by one command, in sections; see docs/gpu.md."""
