"""Models as tables and as pictures. Nothing here is loaded before it is asked for."""

from layerhub.visual.plots import Picture, plot_model
from layerhub.visual.summary import print_summary

__all__ = ["Picture", "plot_model", "print_summary"]
