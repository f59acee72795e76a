"""What the metrics are, a file per family; the code that computes them is elsewhere.

Tables, figures and the paper use these words only: to change how a metric is computed makes
nothing of theirs out of date by itself.
"""
