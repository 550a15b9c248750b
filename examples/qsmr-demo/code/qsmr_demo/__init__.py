"""A small QSMR-like program: ozone from one Odin limb scan, by optimal estimation. Units are SI where none is named."""
