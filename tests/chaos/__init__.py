"""An experiment that is killed, starved and interrupted, and ends with the same bytes."""
