"""The protocol that every format implements, the registry of formats, and what folders of files share."""
