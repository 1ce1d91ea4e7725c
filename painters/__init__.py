"""Looks: a picture painted as oil, watercolor, woodblock print and others, by strokes and washes, without a network."""
