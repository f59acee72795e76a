"""The same bytes, checked: digests of an experiment, what differs, where each file comes from."""
