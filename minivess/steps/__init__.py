"""One function per step of the DAG: reads the step's config and inputs, writes its outputs."""
