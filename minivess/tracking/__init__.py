"""MLflow, the export from it, and queries over the export."""
