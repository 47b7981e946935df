"""Tests of how models are loaded and read."""
