"""Images: read with distrust, generated from a seed, labelled, augmented, and made ready for a network."""
