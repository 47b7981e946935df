"""The documents that the user brings, to evaluate on and to learn from: files, folders, data sets of the hub."""
