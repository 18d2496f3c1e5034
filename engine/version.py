"""The one place of the version; pyproject.toml and every file written read it here."""

VERSION = "0.1.0"
