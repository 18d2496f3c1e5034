"""What it costs: each benchmark measures quality and time together, rivals in one run, and writes JSON."""
