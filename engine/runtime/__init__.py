"""The runtime environment of the engine: device and precision, memory, diagnostics, and a watchdog on the parent
process.
"""
