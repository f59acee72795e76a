"""MONAI without what it would like to look at: all of ours is there, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import pkgutil, sys
walk = pkgutil.walk_packages
from minivess.monai_import import HIDDEN, import_monai
import_monai()
loaded = [name for name in HIDDEN if name in sys.modules]
assert not loaded, loaded
assert pkgutil.walk_packages is walk
import monai
assert monai.__version__[0].isdigit()

import torch
from minivess.config.models import ModelConfig
from minivess.config.schema import LossConfig
from loss_inputs import whole_loss
from minivess.losses import LOSSES
from minivess.models import build_adapter
from monai.networks.nets.vista3d import vista3d132
from small_networks import SMALL, TRAINED_HERE

for name in TRAINED_HERE:
    config = ModelConfig.model_validate({"architecture": name, **SMALL[name]})
    assert isinstance(build_adapter(config, (1.0, 1.0, 5.0)).build(), torch.nn.Module)
logits = torch.randn(1, 2, 8, 8, 8)
label = (torch.rand(1, 1, 8, 8, 8) > 0.5).to(torch.uint8)
for name in LOSSES:
    assert torch.isfinite(whole_loss(name, LossConfig(skeleton_iterations=1))(logits, label)), name

import scipy.signal, skimage.morphology, nibabel
"""


def test_networks_and_losses_need_nothing_that_is_hidden() -> None:
    found = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", CODE], check=True, env=os.environ | {"PYTHONPATH": found})
