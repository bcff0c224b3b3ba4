"""Where a run takes place: devices, processes, output files, progress, sources of weights and their fingerprints."""
