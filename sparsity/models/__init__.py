"""Models: loading one by any name, and where a family keeps its matrices."""
