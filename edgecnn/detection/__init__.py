"""What detectors share: boxes and their code, default boxes, region pooling, suppression, loss, and the last step."""
