"""Tasks of lm-evaluation-harness, for pruned causal language models in memory; the extra `harness`."""
