"""Pictures and masks in: which files a run has, how they are decoded, and how they are read ahead."""
