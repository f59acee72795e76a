"""Networks with one logit for the vessel, as networks of two channels; imports torch."""

from __future__ import annotations

import torch


def two_channels(vessel: torch.Tensor) -> torch.Tensor:
    """Logits (B, 2, x, y, z) whose softmax is the sigmoid of a vessel logit (B, 1, x, y, z).

    The background's is zero: with minus the vessel's, probabilities would be those of twice the
    logit.

    >>> logit = torch.tensor([0.7]).reshape(1, 1, 1, 1, 1)
    >>> bool(torch.allclose(two_channels(logit).softmax(1)[:, 1:], logit.sigmoid()))
    True
    """
    return torch.cat([torch.zeros_like(vessel), vessel], dim=1)


class ReversedAxes(torch.nn.Module):
    """A network that was trained on (z, y, x) and has one logit, for (x, y, z) and two channels."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2, x, y, z) of images (B, 1, x, y, z)."""
        vessel: torch.Tensor = self.network(image.permute(0, 1, 4, 3, 2).contiguous())
        return two_channels(vessel.permute(0, 1, 4, 3, 2).contiguous())


class ClassPrompted(torch.nn.Module):
    """VISTA-3D with a class as its prompt; with points as well, through `points`."""

    def __init__(self, network: torch.nn.Module, class_prompt: int) -> None:
        super().__init__()
        self.network = network
        self.class_prompt = class_prompt

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2, x, y, z) of images (B, 1, x, y, z), from the class alone."""
        vessel = self.network(image, class_vector=self._prompt(image), transpose=True)
        # Its class head puts the batch where other networks have channels, and back.
        return two_channels(vessel.reshape(image.shape))

    def points(
        self, image: torch.Tensor, points: torch.Tensor, inside: torch.Tensor
    ) -> torch.Tensor:
        """Logits (1, 2, x, y, z) of one image (1, 1, x, y, z), from points alone.

        Args:
            image: one window.
            points: voxels (N, 3) of the window.
            inside: for each whether it is in a vessel.
        """
        # 3 and 2 for the classes that VISTA-3D takes for part of others, as hepatic vessels are.
        special = self.class_prompt in SPECIAL
        labels = inside.long() + 2 * special
        vessel = self.network(
            image,
            point_coords=points[None].to(image.dtype),
            point_labels=labels[None],
            prompt_class=self._prompt(image),
        )
        return two_channels(vessel)

    def _prompt(self, image: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[self.class_prompt]], device=image.device)


# Classes whose points have labels of their own, see VISTA3D.convert_point_label.
SPECIAL = frozenset({23, 24, 25, 26, 27, 57, 128})
