"""What a bundle holds beside the model: its manifest, golden answers, and what is made of the answers."""
