"""What the engine asks of the machine: devices, memory, and the process that started it."""
