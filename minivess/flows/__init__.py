"""Whole experiments, asked of Snakemake."""
