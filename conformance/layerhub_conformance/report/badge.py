"""A badge for a README."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from layerhub_conformance.report.figures import Figures

GREEN, AMBER, RED = "#2e7d32", "#8a6100", "#b3261e"
"""All with a contrast of at least 4.5 against white."""
LETTER = 6.6
"""Width of an average letter of Verdana at 11 pixels; ``textLength`` makes every font fit it."""


def badge(figures: Figures) -> str:
    """An SVG image: how many specs of the registry pass; red where any fails, amber where some were not run."""
    specs, total = figures.specs, len(figures.standings)
    label, message = "conformance", f"{specs['pass']} of {total} specs"
    colour = GREEN if specs["pass"] == total else AMBER
    if figures.verdict == "fail":
        message, colour = f"{specs['fail'] + specs['mistrusted']} of {total} specs fail", RED
    return _drawn(label, message, colour)


def _drawn(label: str, message: str, colour: str) -> str:
    left, right = (round(len(text) * LETTER) + 12 for text in (label, message))
    title = f"{label}: {message}"
    texts = "".join(
        f'<text x="{x}" y="14" textLength="{width - 12}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
        for text, x, width in ((label, left / 2, left), (message, left + right / 2, right))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f"aria-label={quoteattr(title)}><title>{escape(title)}</title>"
        f'<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath><g clip-path="url(#r)">'
        f'<rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f"{texts}</g></svg>\n"
    )
