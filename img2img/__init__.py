"""s1 to s4: from words to an image, its twin and the masks."""
