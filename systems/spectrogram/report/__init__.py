"""The page of a validation: real beside generated spectrograms, with scores and their targets."""
