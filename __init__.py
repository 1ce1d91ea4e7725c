"""Text2Cinemagraph: from one sentence, or one photograph, to a seamlessly looping cinemagraph.

The rooms of this package are the folders beside this file: text2cinemagraph.data, .img2img, .models, ...
(docs/architecture.md).
"""
