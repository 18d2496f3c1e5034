"""The exporter protocol that every format implements, the registry of formats, and the base classes for folders."""
