"""What a loss can be given beside logits and label, by the name of its parameter."""

from __future__ import annotations

# (B, 1, x, y, z): 1 on the tubed skeleton of the label, see `minivess.data.skeletons`.
SKELETON = "skeleton"
# (B, 3): spacing (x, y, z) in um of each sample.
SPACING = "spacing_um"
KNOWN = (SKELETON, SPACING)
