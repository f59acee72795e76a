"""Sweeps: trials of an experiment with other config keys, the next ones proposed by Optuna."""
