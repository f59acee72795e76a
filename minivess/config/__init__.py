"""The configuration: schema, presets, loading."""
