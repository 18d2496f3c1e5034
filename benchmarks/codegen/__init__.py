"""What the compiler makes of one optimisation step on an NVIDIA GPU, seen on a machine without one; see docs/codegen.md."""
