"""Tasks: the documents, what a model scores on them, and how curves must look."""
