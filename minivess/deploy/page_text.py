"""The page's words: HTML and Markdown of everything that is not a control."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from minivess.deploy.views import UNITS, shown_value
from minivess.metrics import METRICS

if TYPE_CHECKING:
    from minivess.deploy.bundle import Bundle, BundleMetric
    from minivess.deploy.viewing import Viewed
    from minivess.deploy.views import Statistic
    from minivess.errors import MinivessError
    from minivess.types import Spacing

TITLE = "MiniVess"
LIMITS = (
    "For research only: no medical device, not for diagnosis. Everything stays on this computer."
)
START = """
<div class="mv-start">
<ol>
<li><b>Choose a volume</b>: a NIfTI or TIFF stack, or the example.</li>
<li><b>Segment</b> it. A volume of 512 × 512 × 50 voxels takes minutes on two CPU cores.</li>
<li><b>Look and measure</b>: slices, projection, surface in 3D, vessel statistics in
micrometres.</li>
<li><b>Download</b> the mask, in the geometry of your file, and the statistics.</li>
</ol>
</div>
"""
SPACING = """
<p class="mv-note">The file does not say how large its voxels are. Distance of neighbouring voxels
in micrometres:</p>
"""
SURFACE = """
<p class="mv-note">Drag to turn, wheel or pinch to zoom. The frame is the volume; z points down.</p>
"""
LET_GO = """
<p class="mv-warning" role="status">The page no longer holds this volume, to free memory.
Please choose it again.</p>
"""
ENDING = '<p class="mv-warning" role="status">The page has ended. Start it again.</p>'
OTHER_CHOSEN = """
<p class="mv-warning" role="status">Another volume was chosen meanwhile. Segment it once it is
shown, or choose one again.</p>
"""
FAR = 1.5  # ratio of spacings from which results may suffer


def header(experiment: str, meaning: str) -> str:
    """Title, what it is, which model."""
    return (
        f'<header class="mv-header"><h1>{TITLE}</h1>'
        f"<p>Vessels in 3D volumes: segment, look, measure. Model: the champion of "
        f"<b>{html.escape(experiment)}</b>, which {html.escape(meaning)}.</p>"
        f'<p class="mv-limits">{LIMITS}</p></header>'
    )


def model_facts(bundle: Bundle) -> str:
    """The champion's metrics with intervals, as a table."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(m.label)}</th><td>{_interval(m)}</td></tr>'
        for m in bundle.metrics
        if METRICS[m.metric].panel == "main"
    )
    first = bundle.metrics[0]
    return (
        f'<table class="mv-table"><caption>Metrics on {first.n_cases} held-out cases'
        f"<small>mean of the networks of this model's arm, with its {100 * first.confidence:g}% "
        "interval</small></caption>"
        f"<tbody>{rows}</tbody></table>"
    )


def _interval(metric: BundleMetric) -> str:
    unit = f" {UNITS[METRICS[metric.metric].unit]}".rstrip()
    if metric.ci_low is None or metric.ci_high is None:
        return f"{metric.mean:.3g}{unit}"
    interval = f"{metric.ci_low:.3g} to {metric.ci_high:.3g}"
    return f"{metric.mean:.3g}{unit}<small>{interval}{unit}</small>"


def number(value: float) -> str:
    """A length as people write it.

    >>> number(5.0), number(0.4971)
    ('5', '0.497')
    """
    return f"{value:.3g}"


def spacing_text(spacing_um: Spacing) -> str:
    """A spacing as text.

    >>> spacing_text((1.0, 1.0, 5.0))
    '1 × 1 × 5 µm'
    """
    return " × ".join(number(value) for value in spacing_um) + " µm"


def volume_line(viewed: Viewed, trained_um: Spacing) -> str:
    """What was read; a warning where the model was trained at another spacing."""
    x, y, z = viewed.volume.geometry.shape
    text = (
        f'<p class="mv-good">Read <b>{html.escape(viewed.name)}</b>: {x} × {y} × {z} voxels of '
        f"{spacing_text(viewed.spacing_um)}.</p>"
    )
    ratios = [a / b for a, b in zip(viewed.spacing_um, trained_um, strict=True)]
    if max(ratios) > FAR or min(ratios) < 1 / FAR:
        text += (
            '<p class="mv-warning">The model was trained on voxels of '
            f"{spacing_text(trained_um)}: at this spacing its metrics say little.</p>"
        )
    return text


def asking(name: str) -> str:
    """That the spacing has to be given."""
    return (
        f'<p class="mv-warning" role="status">Please give the spacing of '
        f"<b>{html.escape(name)}</b>: lengths and radii are measured in micrometres.</p>"
    )


def error_box(error: MinivessError) -> str:
    """What is wrong, what was found, what to do; no paths of this machine."""
    rows = [("Found", error.found), ("Expected", error.expected), ("What to do", error.fix)]
    lines = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in rows if text)
    return (
        f'<div class="mv-error" role="alert"><p><b>{html.escape(_sentence(error.what))}</b></p>'
        f"<dl>{lines}</dl><p><code>{error.code}</code></p></div>"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def done_line(viewed: Viewed, seconds: float) -> str:
    """That the segmentation is finished."""
    name = html.escape(viewed.name)
    return f'<p class="mv-good">Segmented <b>{name}</b> in {seconds:.1f}&nbsp;s.</p>'


def threshold_note(threshold: float, evaluated: float) -> str:
    """What a threshold means for the model's metrics."""
    if abs(threshold - evaluated) < 1e-9:
        return f'<p class="mv-note">{evaluated:g} is what the model was evaluated with.</p>'
    return (
        f'<p class="mv-warning">{threshold:g} instead of {evaluated:g}: this is no longer the '
        "evaluated model, and the metrics of its card do not hold.</p>"
    )


def statistics_table(statistics: tuple[Statistic, ...]) -> str:
    """Statistics as a table; each with its definition."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(s.label)}<small>{html.escape(s.definition)}</small></th>'
        f"<td>{html.escape(shown_value(s))}</td></tr>"
        for s in statistics
    )
    return (
        '<table class="mv-table"><caption>Vessels in the mask</caption>'
        f"<tbody>{rows}</tbody></table>"
    )


def without_metadata(card: str) -> str:
    r"""A model card without its YAML head.

    >>> without_metadata("---\nlicense: x\n---\n# Card")
    '# Card'
    """
    if card.startswith("---\n"):
        return card.split("\n---\n", 1)[-1].lstrip("\n")
    return card
