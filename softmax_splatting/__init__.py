"""Forward warping: every source pixel is thrown to where its flow points, and shared among the four pixels it lands
between.
"""

from text2cinemagraph.softmax_splatting.splat import splat, splat_blend

__all__ = ["splat", "splat_blend"]
