"""Which code makes a number: fingerprints of models, trainer and scoring."""
