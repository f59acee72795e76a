"""From source volumes to training patches."""
