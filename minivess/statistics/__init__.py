"""Tables and comparisons over cases."""
